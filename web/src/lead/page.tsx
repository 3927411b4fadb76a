import { lazy, Suspense, type ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { Link, useParams } from "wouter";
import { useSession } from "../api/session";
import { Boundary } from "../ui/boundary";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
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
  return (
    <>
      <header className="top"><SideButton /></header>
      <div className="page">
        <div className="page-inner wide lead">
          <h1>{t("lead.title")}</h1>
          {allowed ? (
            <>
              <nav className="tabs" aria-label={t("lead.title")}>
                {(Object.keys(PAGES) as Tab[]).map((each) => (
                  <Link key={each} href={each === "overview" ? "/lead" : `/lead/${each}`} aria-current={each === tab ? "page" : undefined}>{t(`lead.tabs.${each}`)}</Link>
                ))}
              </nav>
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
