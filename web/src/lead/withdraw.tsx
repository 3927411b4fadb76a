import { useQuery, useQueryClient } from "@tanstack/react-query";
import { UserX } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { Confirm } from "../ui/dialog";
import { warn } from "../ui/toast";
import { withdraw, type Withdrawal } from "./api";
import { Section, Select, Warning } from "./parts";

/** For somebody who asks an administrator: what was collected of them is erased. */
export function Withdraw() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { data: users = [] } = useQuery({ queryKey: ["users"], queryFn: () => ok(client.GET("/api/users")) });
  const [user, setUser] = useState("");
  const [asking, setAsking] = useState(false);
  const [done, setDone] = useState<Withdrawal | null>(null);
  const name = users.find((each) => each.id === user)?.name ?? "";
  async function go() {
    try {
      setDone(await withdraw({ user, key: "" }));
      await queries.invalidateQueries({ queryKey: ["lead"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <Section title={t("lead.withdraw.title")} text={t("lead.withdraw.text")}>
      <div className="filters two">
        <Select label={t("lead.withdraw.whose")} value={user} options={[["", "–"], ...users.map((each) => [each.id, each.name] as const)]} onChange={(value) => { setUser(value); setDone(null); }} />
        <div><button type="button" className="button danger" disabled={!user} onClick={() => setAsking(true)}><UserX size={16} aria-hidden />{t("lead.withdraw.erase")}</button></div>
      </div>
      {done ? <div role="status" className="stack"><p>{t("lead.withdraw.done", { count: done.erased, name })}{done.wiped ? "" : ` ${t("lead.withdraw.later")}`}</p>{done.exports || done.models ? <Warning>{t("lead.withdraw.marked", { exports: done.exports, models: done.models })}</Warning> : null}</div> : null}
      {asking ? <Confirm title={t("lead.withdraw.confirm", { name })} text={t("lead.withdraw.text")} action={t("lead.withdraw.erase")} onConfirm={() => void go()} onClose={() => setAsking(false)} /> : null}
    </Section>
  );
}
