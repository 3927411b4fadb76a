import { Languages, Moon, Sun } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { setLanguage } from "../i18n";
import { setTheme, useTheme } from "../lib/theme";
import { useTitle } from "../lib/title";

/** The page of people who are not signed in yet. */
export function AuthShell(props: { title: string; text?: string; children: ReactNode }) {
  const { t, i18n } = useTranslation();
  const theme = useTheme();
  useTitle(props.title);
  const dark = theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  const other = i18n.language === "en" ? "zh-CN" : "en";
  return (
    <main className="center">
      <div className="auth">
        <div className="brand"><img src="/icon.svg" alt="" />Chatwright</div>
        <div className="card stack">
          <div>
            <h1>{props.title}</h1>
            {props.text ? <p className="soft small">{props.text}</p> : null}
          </div>
          {props.children}
        </div>
        <div className="auth-foot">
          <button type="button" className="button plain" lang={other} onClick={() => setLanguage(other)}><Languages size={16} aria-hidden />{other === "en" ? "English" : "简体中文"}</button>
          <button type="button" className="icon-button" aria-label={dark ? t("theme.toLight") : t("theme.toDark")} onClick={() => setTheme(dark ? "light" : "dark")}>
            {dark ? <Sun size={17} aria-hidden /> : <Moon size={17} aria-hidden />}
          </button>
        </div>
      </div>
    </main>
  );
}
