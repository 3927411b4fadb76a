import { lazy, Suspense } from "react";
import { useTranslation } from "react-i18next";
import { useParams } from "wouter";
import { useSession } from "../api/session";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import "../styles/label.css";
import { DeskProvider } from "./desk";

const PAGES = { home: lazy(() => import("./home")), next: lazy(() => import("./next")), history: lazy(() => import("./history")) };

/** The labellers' side of the desk. */
export default function Label() {
  const { t } = useTranslation();
  const { view = "home" } = useParams<{ view?: string }>();
  const { role, user_id: id } = useSession();
  const Page = PAGES[view in PAGES ? (view as keyof typeof PAGES) : "home"];
  if (role === "member") return <><header className="top"><SideButton /></header><div className="empty"><p className="notice">{t("label.notAllowed")}</p></div></>;
  return <DeskProvider key={id}><Suspense fallback={<Spinner label={t("common.loading")} />}><Page /></Suspense></DeskProvider>;
}
