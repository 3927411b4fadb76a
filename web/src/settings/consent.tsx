import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { formatDate } from "../lib/format";
import { showAnswer } from "../lib/queries";
import { Confirm } from "../ui/dialog";
import { Check } from "../ui/fields";
import { Remains } from "../ui/remains";
import { toast, warn } from "../ui/toast";

/** Whether one's chats, and what comes with each API key, may be collected: what that means stands beside the switch. */
export function Consent() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const language = i18n.language === "zh-CN" ? "zh-CN" : "en";
  const key = ["consent", language];
  const { data } = useQuery({ queryKey: key, queryFn: () => ok(client.GET("/api/consent", { params: { query: { language } } })) });
  const [erasing, setErasing] = useState(false);

  async function change(training_consent: boolean, apiKey = "") {
    try {
      await showAnswer(queries, key, ok(client.PUT("/api/consent", { params: { query: { language } }, body: { training_consent, key: apiKey } })));
    } catch (failure) {
      warn(messageOf(failure, t));
      void queries.invalidateQueries({ queryKey: ["consent"] });
    }
  }

  async function erase() {
    try {
      const done = await ok(client.POST("/api/desk/withdrawals", { body: { user: "", key: "", imported_user: "" } }));
      toast(t("consent.erased", { count: done.erased }));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["consent"] });
  }

  return (
    <div className="setting consent">
      <div className="stack">
        <strong>{t("settings.training")}</strong>
        <p className="soft small">{data?.notice ?? t("settings.trainingText")}</p>
      </div>
      <div className="stack">
        <Check label={t("settings.trainingAllow")} checked={data?.training_consent ?? false} disabled={!data} onChange={(on) => change(on)} />
        {data?.keys.map((each) => <Check key={each.id} label={t("consent.key", { name: each.name })} checked={each.training_consent} onChange={(on) => change(on, each.id)} />)}
        {data?.since ? <span className="soft small">{t("consent.since", { date: formatDate(data.since, i18n.language) })}</span> : null}
        {data?.withdrawn_at ? <div role="status" className="stack"><span className="small">{t("consent.withdrawn", { date: formatDate(data.withdrawn_at, i18n.language) })}</span><Remains items={data.remains ?? []} /></div> : null}
        {data?.kept_texts ? <div className="row wrap"><span className="small">{t("consent.kept", { count: data.kept_texts })}</span><button type="button" className="button danger" onClick={() => setErasing(true)}>{t("consent.erase")}</button></div> : null}
      </div>
      {erasing ? <Confirm title={t("consent.eraseTitle")} text={t("consent.eraseText")} action={t("consent.erase")} onConfirm={() => void erase()} onClose={() => setErasing(false)} /> : null}
    </div>
  );
}
