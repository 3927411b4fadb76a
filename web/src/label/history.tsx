import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { ChevronLeft, History as HistoryIcon, Undo2 } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { messageOf } from "../api/message";
import { formatDate } from "../lib/format";
import { useTitle } from "../lib/title";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { toast, warn } from "../ui/toast";
import { myLabels, undoLabel, type MyLabel, type Undone } from "./api";
import { useDesk } from "./desk";
import { TaskFrame } from "./frame";
import { reopened } from "./task";

/** One's own labels, the newest first; each can be taken back until its task is merged. */
export default function History() {
  const { t } = useTranslation();
  useTitle(t("label.history.title"));
  const { outbox, state } = useDesk();
  const queries = useQueryClient();
  const [undone, setUndone] = useState<Undone | null>(null);
  const { data, error, hasNextPage, fetchNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["desk", "mine"], initialPageParam: 0, queryFn: ({ pageParam }) => myLabels(pageParam),
    getNextPageParam: (page, pages) => (page.more ? pages.reduce((sum, each) => sum + each.labels.length, 0) : null),
  });
  const labels = data?.pages.flatMap((page) => page.labels) ?? [];

  async function undo(label: MyLabel) {
    try {
      setUndone(await undoLabel(label.uuid));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["desk"] });
  }

  const close = () => { setUndone(null); void queries.invalidateQueries({ queryKey: ["desk"] }); };
  if (undone) return <TaskFrame task={undone.task} given={reopened(undone.task, undone.value, undone.payload)} onUndoSent={null} onSent={(sent) => { close(); void outbox.drain().then(() => toast(outbox.snapshot().parcels.some((parcel) => parcel.uuid === sent.uuid) ? t("label.kept") : t("label.sent"))); }} onSkipped={close} />;
  return (
    <>
      <header className="top"><SideButton /><Link className="icon-button" href="/label" aria-label={t("label.toHome")} title={t("label.toHome")}><ChevronLeft size={18} aria-hidden /></Link></header>
      <div className="page">
        <div className="page-inner">
          <div className="page-head"><div className="grow"><h1>{t("label.history.title")}</h1><p>{t("label.history.text")}</p></div></div>
          {error && !data ? <p className="error-text" role="alert">{messageOf(error, t)}</p> : null}
          {state.parcels.length ? <p className="soft">{t("label.history.waiting", { count: state.parcels.length })}</p> : null}
          {data && !labels.length ? <div className="empty"><HistoryIcon size={34} aria-hidden /><h2>{t("label.history.none")}</h2></div> : null}
          {data ? null : <Spinner label={t("common.loading")} />}
          <ul className="desk-history">{labels.map((label) => <Entry key={label.uuid} label={label} onUndo={() => void undo(label)} />)}</ul>
          {hasNextPage ? <button type="button" className="button" disabled={isFetchingNextPage} onClick={() => void fetchNextPage()}>{t("common.more")}</button> : null}
        </div>
      </div>
    </>
  );
}

function Entry({ label, onUndo }: { label: MyLabel; onUndo: () => void }) {
  const { t, i18n } = useTranslation();
  const { value, payload } = label;
  const written = payload?.messages?.map((message) => message.content).join(" / ") ?? "";
  const said = value.cannot_judge ? t("label.rank.cannot") : value.verdict ? t(`label.compare.${value.verdict}`) : "";
  return (
    <li className="card desk-entry">
      <div className="row wrap">
        <span className="badge accent">{t(`label.kinds.${label.kind}`)}</span>
        {label.state === "current" ? null : <span className="badge">{t(`label.history.${label.state}`)}</span>}
        <span className="soft small grow">{label.project_name} · {formatDate(label.at, i18n.language)}</span>
        {label.can_undo ? <button type="button" className="button plain small" onClick={onUndo}><Undo2 size={15} aria-hidden />{t("label.history.undo")}</button> : null}
      </div>
      <p className="ellipsis" dir="auto">{label.start || <span className="soft">{t("label.history.erased")}</span>}</p>
      <p className="row wrap">
        {value.ranking ? <strong className="mono">{value.ranking}</strong> : null}
        {said ? <strong>{said}</strong> : null}
        {value.none_acceptable ? <span className="badge">{t("label.rank.none")}</span> : null}
        {value.likert ? <span className="soft small mono">{value.likert.map((each) => each ?? "–").join(" ")}</span> : null}
        {written ? <span className="soft ellipsis" dir="auto">{written}</span> : null}
      </p>
    </li>
  );
}
