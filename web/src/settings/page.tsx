import { lazy, Suspense, type ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "wouter";
import { useSession } from "../api/session";
import { useTitle } from "../lib/title";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { Tabs } from "../ui/tabs";
import { General } from "./general";

const Keys = lazy(() => import("./keys"));
const Usage = lazy(() => import("./usage"));
const Users = lazy(() => import("./users"));
const Audit = lazy(() => import("./audit"));
const Models = lazy(() => import("./models"));

export default function Settings() {
  const { t } = useTranslation();
  const { tab: wanted = "general" } = useParams<{ tab?: string }>();
  const admin = useSession().role === "admin";
  const tabs = {
    general: [t("settings.general"), General], keys: [t("settings.keys"), Keys], usage: [t("settings.usage"), Usage], models: [t("settings.models"), Models],
    ...(admin ? { users: [t("settings.users"), Users], audit: [t("settings.audit"), Audit] } : {}),
  } as Record<string, [string, ComponentType]>;
  const tab = wanted in tabs ? wanted : "general";
  const [label, Tab] = tabs[tab]!;
  useTitle(`${label} · ${t("side.settings")}`);
  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner">
          <h1>{t("side.settings")}</h1>
          <Tabs label={t("side.settings")} open={tab} tabs={Object.entries(tabs).map(([name, [label]]) => [name, name === "general" ? "/settings" : `/settings/${name}`, label] as const)} />
          {wanted in tabs ? null : <p className="notice">{t("settings.onlyAdmins")}</p>}
          <Suspense fallback={<Spinner label={t("common.loading")} />}><Tab /></Suspense>
        </div>
      </div>
    </>
  );
}
