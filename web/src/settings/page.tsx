import { lazy, Suspense, type ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { Link, useParams } from "wouter";
import { useSession } from "../api/session";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { General } from "./general";

const Keys = lazy(() => import("./keys"));
const Usage = lazy(() => import("./usage"));
const Users = lazy(() => import("./users"));
const Audit = lazy(() => import("./audit"));
const Models = lazy(() => import("./models"));

export default function Settings() {
  const { t } = useTranslation();
  const { tab = "general" } = useParams<{ tab?: string }>();
  const admin = useSession().role === "admin";
  const tabs = {
    general: [t("settings.general"), General], keys: [t("settings.keys"), Keys], usage: [t("settings.usage"), Usage], models: [t("settings.models"), Models],
    ...(admin ? { users: [t("settings.users"), Users], audit: [t("settings.audit"), Audit] } : {}),
  } as Record<string, [string, ComponentType]>;
  const Tab = (tabs[tab] ?? tabs.general)![1];
  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner">
          <h1>{t("side.settings")}</h1>
          <nav className="tabs" aria-label={t("side.settings")}>
            {Object.entries(tabs).map(([name, [label]]) => <Link key={name} href={name === "general" ? "/settings" : `/settings/${name}`} aria-current={name === tab ? "page" : undefined}>{label}</Link>)}
          </nav>
          <Suspense fallback={<Spinner label={t("common.loading")} />}><Tab /></Suspense>
        </div>
      </div>
    </>
  );
}
