import { lazy, Suspense, type ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "wouter";
import { useSession } from "../api/session";
import { useTitle } from "../lib/title";
import { Boundary } from "../ui/boundary";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { Tabs } from "../ui/tabs";
import "../styles/lead.css";

const PAGES = {
  overview: lazy(() => import("./dashboard")),
  data: lazy(() => import("./browse")),
  projects: lazy(() => import("./projects")),
  guidelines: lazy(() => import("./guidelines")),
  transfer: lazy(() => import("./transfer")),
  intake: lazy(() => import("./intake")),
  jobs: lazy(() => import("./jobs")),
  models: lazy(() => import("./models")),
} satisfies Record<string, ComponentType>;
type Tab = keyof typeof PAGES;

const tabOf = (name: string): Tab => (name in PAGES ? (name as Tab) : "overview");

/** The leads' side of the labelling desk: one page per question, the same row of tabs above each. */
export default function Lead() {
  const { t } = useTranslation();
  const { tab: name = "overview" } = useParams<{ tab?: string }>();
  const allowed = ["lead", "admin"].includes(useSession().role);
  const tab = tabOf(name);
  const Page = PAGES[tab];
  useTitle(`${t(`lead.tabs.${tab}`)} · ${t("lead.title")}`);
  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner wide lead">
          <h1>{t("lead.title")}</h1>
          {allowed ? (
            <>
              <Tabs label={t("lead.title")} open={tab} tabs={(Object.keys(PAGES) as Tab[]).map((each) => [each, each === "overview" ? "/lead" : `/lead/${each}`, t(`lead.tabs.${each}`)] as const)} />
              <Boundary key={tab}>
                <Suspense fallback={<Spinner label={t("common.loading")} />}><Page /></Suspense>
              </Boundary>
            </>
          ) : <p className="notice">{t("lead.notAllowed")}</p>}
        </div>
      </div>
    </>
  );
}
