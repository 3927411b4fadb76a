import { useQueryClient } from "@tanstack/react-query";
import { CheckCheck, CloudOff, Undo2 } from "lucide-react";
import { useCallback, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useSearchParams } from "wouter";
import { ApiError } from "../api/client";
import { messageOf } from "../api/message";
import { useTitle } from "../lib/title";
import { Spinner } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { toast, warn } from "../ui/toast";
import { next, undoLabel, type Counts } from "./api";
import { useDesk } from "./desk";
import { TaskFrame } from "./frame";
import { browserStore, closeOpen, keepOpen, stillOpen } from "./store";
import { fitted, reopened, type Task, type Work } from "./task";

type Current = { task: Task; given: Work | null; number: number };
type Sent = { uuid: string; task: Task; work: Work };
type Stand = { state: "loading" } | { state: "task"; current: Current } | { state: "none"; why: string } | { state: "failed"; message: string; offline: boolean };

const RETRY_MS = 5000;

/** One task after the other. What was sent last can be taken back until it is merged. */
export default function NextTask() {
  const { t } = useTranslation();
  useTitle(t("label.title"));
  const [params] = useSearchParams();
  const [project, kind] = [params.get("project") ?? "", params.get("kind") ?? ""];
  const search = `${project} ${kind}`;
  const { labeller, outbox, state } = useDesk();
  const queries = useQueryClient();
  const [stand, setStand] = useState<Stand>({ state: "loading" });
  const [counts, setCounts] = useState<Counts | null>(null);
  const [last, setLast] = useState<Sent | null>(null);
  const number = useRef(0);
  const asked = useRef(0);

  const show = useCallback((task: Task, given: Work | null) => {
    setStand({ state: "task", current: { task, given, number: number.current++ } });
    void keepOpen(browserStore, { labeller, task, search });
  }, [labeller, search]);
  const load = useCallback(async () => {
    const mine = ++asked.current;
    const waits = (id: string) => outbox.snapshot().parcels.some((parcel) => parcel.state === "waiting" && parcel.task === id);
    try {
      await outbox.drain();
      // With the code that formats answers there before they are shown, they do not move under a finger.
      const [answer] = await Promise.all([next(project, kind), import("../chat/markdown").catch(() => null)]);
      if (mine !== asked.current) return;
      setCounts(answer.counts);
      if (!answer.task) setStand({ state: "none", why: answer.why });
      else if (waits(answer.task.id)) setStand({ state: "failed", message: t("label.offline"), offline: true });
      else show(answer.task, null);
      void queries.invalidateQueries({ queryKey: ["desk"] });
    } catch (failure) {
      const away = !(failure instanceof ApiError) || failure.status >= 500;
      const before = away ? await stillOpen<Task>(browserStore, labeller, search) : null; // a reload without the server: the task that was open
      if (mine !== asked.current) return;
      if (before && !waits(before.id)) show(before, null);
      else setStand({ state: "failed", message: failure instanceof ApiError ? messageOf(failure, t) : t("label.offline"), offline: away });
    }
  }, [outbox, project, kind, search, labeller, queries, show, t]);
  // What was sent or left is not before anybody any more.
  const leave = () => { void closeOpen(browserStore, labeller).then(load); setStand({ state: "loading" }); };

  useEffect(() => { setStand({ state: "loading" }); void load(); return () => { asked.current++; }; }, [load]);
  const offline = stand.state === "failed" && stand.offline;
  useEffect(() => {
    if (!offline) return;
    const again = () => void load();
    const timer = setInterval(again, RETRY_MS);
    addEventListener("online", again);
    return () => { clearInterval(timer); removeEventListener("online", again); };
  }, [offline, load]);

  async function undoLast(sent: Sent) {
    try {
      if (await outbox.takeBack(sent.uuid)) show(sent.task, sent.work);
      else {
        const { task, value, payload } = await undoLabel(sent.uuid);
        show(task, fitted(task, sent.work) ?? reopened(task, value, payload));
      }
      asked.current++;
      toast(t("label.takenBack"));
      setLast(null);
    } catch (failure) {
      warn(messageOf(failure, t));
      if (failure instanceof ApiError && failure.status < 500) setLast(null);
    }
  }

  const held = last !== null && state.parcels.some((parcel) => parcel.uuid === last.uuid);
  const undo = last ? <p className="desk-last" role="status">{held ? <CloudOff size={16} aria-hidden /> : <CheckCheck size={16} aria-hidden />}{held ? t("label.kept") : t("label.sent")}<button type="button" className="linkish" onClick={() => void undoLast(last)}><Undo2 size={14} aria-hidden />{t("label.undoSent")}</button></p> : null;
  if (stand.state === "task") {
    const { current } = stand;
    return (
      <>
        {counts?.screening.required && counts.screening.passed === null ? <p className="notice calm desk-notice">{t("label.screening", { done: counts.screening.done + 1, total: counts.screening.total })}</p> : null}
        <div className="desk-last-place">{undo}</div>
        <TaskFrame
          key={`${current.task.id}-${current.number}`} task={current.task} given={current.given} onUndoSent={last ? () => void undoLast(last) : null}
          onSent={(sent) => { setLast(sent); leave(); }} onSkipped={() => { toast(t("label.skipped")); leave(); }}
        />
      </>
    );
  }
  return (
    <>
      <header className="top"><SideButton /><h1>{t("label.title")}</h1></header>
      {undo}
      {stand.state === "loading" ? <Spinner label={t("common.loading")} /> : (
        <div className="empty desk-empty" role={stand.state === "failed" ? "alert" : undefined}>
          {stand.state === "failed"
            ? <><CloudOff size={34} aria-hidden /><h2>{t("label.noNext")}</h2><p>{stand.message}</p><button type="button" className="button" onClick={() => void load()}>{t("common.retry")}</button></>
            : <><CheckCheck size={34} aria-hidden />{stand.why === "screening_failed" ? <><h2>{t("label.screeningFailed")}</h2><p>{t("label.screeningFailedText")}</p></> : <><h2>{t("label.allDone")}</h2><p>{t("label.allDoneText")}</p></>}</>}
          <Link className="button" href="/label">{t("label.toHome")}</Link>
        </div>
      )}
    </>
  );
}
