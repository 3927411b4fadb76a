import { useQueryClient } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { useLocation } from "wouter";
import client, { ok } from "../api/client";
import { useSession } from "../api/session";
import { messageOf } from "../api/message";
import { forgetThreads } from "../chat/threads";
import { setLanguage, type Language } from "../i18n";
import { setTheme, useTheme } from "../lib/theme";
import { Confirm } from "../ui/dialog";
import { Segments } from "../ui/fields";
import { toast, warn } from "../ui/toast";
import { Account } from "./account";
import { Consent } from "./consent";
import { ChatLinks } from "./chat-links";

function Row(props: { title: string; text?: string; children: ReactNode }) {
  return <div className="setting"><div><strong>{props.title}</strong>{props.text ? <p className="soft small">{props.text}</p> : null}</div>{props.children}</div>;
}

export function General() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const [, navigate] = useLocation();
  const session = useSession();
  const theme = useTheme();
  const [deleting, setDeleting] = useState(false);

  async function importFile(file: File | undefined) {
    if (!file) return;
    try {
      const body: unknown = JSON.parse(await file.text());
      if (typeof body !== "object" || body === null || !("title" in body) || !("messages" in body) || !Array.isArray(body.messages)) return warn(t("settings.importForeign"));
      const made = await ok(client.POST("/api/conversations/import", { body: body as never }));
      void queries.invalidateQueries({ queryKey: ["conversations"] });
      navigate(`/c/${made.id}`);
    } catch (failure) {
      warn(failure instanceof SyntaxError ? t("settings.importBroken") : messageOf(failure, t));
    }
  }

  async function deleteAll() {
    try {
      await ok(client.DELETE("/api/conversations"));
      forgetThreads();
      queries.removeQueries({ queryKey: ["conversation"] });
      toast(t("settings.deleted"));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["conversations"] });
  }

  return (
    <div className="card">
      <Row title={t("settings.account")} text={t("settings.accountText", { name: session.name, role: t(`roles.${session.role}`) })}><span className="badge accent">{session.name}</span></Row>
      <Account />
      <Row title={t("settings.language")}>
        <Segments label={t("settings.language")} value={i18n.language as Language} options={[["en", "English"], ["zh-CN", "简体中文"]]} onChange={setLanguage} />
      </Row>
      <Row title={t("settings.theme")}>
        <Segments label={t("settings.theme")} value={theme} options={[["system", t("theme.system")], ["light", t("theme.light")], ["dark", t("theme.dark")]]} onChange={setTheme} />
      </Row>
      <Consent />
      <ChatLinks />
      <Row title={t("settings.import")} text={t("settings.importText")}>
        <label className="button">{t("settings.importChoose")}<input className="sr-only" type="file" accept="application/json,.json" onChange={(event) => void importFile(event.target.files?.[0])} /></label>
      </Row>
      <Row title={t("settings.deleteAll")} text={t("settings.deleteAllText")}>
        <button type="button" className="button danger" onClick={() => setDeleting(true)}>{t("common.delete")}</button>
      </Row>
      {deleting ? <Confirm title={t("settings.deleteAll")} text={t("settings.deleteAllText")} action={t("common.delete")} onConfirm={() => void deleteAll()} onClose={() => setDeleting(false)} /> : null}
    </div>
  );
}
