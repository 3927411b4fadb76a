import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { CloudOff, CloudUpload, TriangleAlert } from "lucide-react";
import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { ApiError } from "../api/client";
import { messageOf } from "../api/message";
import { useSession } from "../api/session";
import { copyText, formatDate } from "../lib/format";
import { Confirm, Dialog } from "../ui/dialog";
import { toast, warn } from "../ui/toast";
import { sendLabel, type Labelled } from "./api";
import { Outbox, type OutboxState, type Parcel } from "./outbox";
import { browserStore, forgetOld } from "./store";
import type { LabelBody } from "./task";

type Desk = { labeller: string; outbox: Outbox; state: OutboxState };
const Context = createContext<Desk | null>(null);

export function useDesk(): Desk {
  const desk = useContext(Context);
  if (!desk) throw new Error("useDesk: outside of DeskProvider");
  return desk;
}

const outboxes = new Map<string, Outbox>();

/** The outbox of a labeller, one for the life of the page: it goes on sending whatever page is open. */
export function outboxOf(labeller: string, queries: QueryClient, told: (answer: Labelled) => void = () => {}): Outbox {
  let outbox = outboxes.get(labeller);
  if (!outbox) {
    outbox = new Outbox(browserStore, labeller, (parcel) => sendLabel(parcel.body as LabelBody), (_, answer) => {
      told(answer as Labelled);
      void queries.invalidateQueries({ queryKey: ["desk"] });
    });
    outboxes.set(labeller, outbox);
    addEventListener("online", () => void outbox!.drain());
    outbox.subscribe(() => remember(outbox!.snapshot()));
    void outbox.drain();
  }
  return outbox;
}

/** A mark for the next start of the app, so that it sends what waits even when nobody opens the desk. */
function remember(state: OutboxState): void {
  try {
    if (state.parcels.length) localStorage.setItem("label.waiting", "1");
    else if (!state.sending) localStorage.removeItem("label.waiting");
  } catch {
    // Without storage there is nothing that could wait for the next start.
  }
}

export function DeskProvider({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const labeller = useSession().user_id;
  const [outbox] = useState(() => outboxOf(labeller, queries, (answer) => { if (answer.too_fast) toast(t("label.tooFast")); }));
  const state = useSyncExternalStore(outbox.subscribe, outbox.snapshot);
  useEffect(() => { void outbox.drain(); void forgetOld(browserStore); }, [outbox]);
  return <Context value={{ labeller, outbox, state }}><OutboxBar />{children}</Context>;
}

/** Says what has not reached the server yet. Silent while everything is well. */
function OutboxBar() {
  const { t } = useTranslation();
  const { outbox, state } = useDesk();
  const [open, setOpen] = useState(false);
  const refused = state.parcels.filter((parcel) => parcel.state === "refused");
  const waiting = state.parcels.length - refused.length;
  const [lasting, setLasting] = useState(true);
  useEffect(() => { void browserStore.lasting().then(setLasting); }, []);
  const stuck = waiting > 0 && state.failures > 0;
  return (
    <>
      {lasting ? null : <p className="notice desk-notice" role="status"><TriangleAlert size={17} aria-hidden />{t("label.outbox.memory")}</p>}
      {refused.length ? (
        <p className="notice danger desk-notice" role="alert"><TriangleAlert size={17} aria-hidden /><span className="grow">{t("label.outbox.refused", { count: refused.length })}</span>
          <button type="button" className="button small" onClick={() => setOpen(true)}>{t("label.outbox.look")}</button></p>
      ) : null}
      {stuck ? (
        <p className="notice desk-notice" role="status" data-testid="outbox-waiting"><CloudOff size={17} aria-hidden /><span className="grow">{t("label.outbox.waiting", { count: waiting })}</span>
          <button type="button" className="button small" onClick={() => void outbox.drain()}><CloudUpload size={15} aria-hidden />{t("label.outbox.now")}</button></p>
      ) : null}
      {open && refused.length ? <Refused parcels={refused} onClose={() => setOpen(false)} /> : null}
    </>
  );
}

/** Labels that the server will not take: nothing is thrown away without its author. */
function Refused({ parcels, onClose }: { parcels: Parcel[]; onClose: () => void }) {
  const { t, i18n } = useTranslation();
  const { outbox } = useDesk();
  const [discard, setDiscard] = useState<Parcel | null>(null);
  return (
    <Dialog title={t("label.outbox.title")} wide onClose={onClose}>
      <p className="soft">{t("label.outbox.text")}</p>
      {parcels.map((parcel) => (
        <section key={parcel.uuid} className="stack desk-parcel">
          <div><strong dir="auto">{parcel.excerpt || parcel.task}</strong> <span className="soft small">{formatDate(parcel.at / 1000, i18n.language)}</span></div>
          <p className="error-text">{messageOf(new ApiError(parcel.refusal?.status ?? 400, parcel.reason, parcel.refusal?.code ?? "", 0, parcel.refusal?.param), t)}</p>
          <pre className="preview" tabIndex={0}>{readable(parcel.body as LabelBody)}</pre>
          <div className="row wrap end">
            <button type="button" className="button" onClick={() => void copyText(readable(parcel.body as LabelBody)).then((done) => (done ? toast(t("common.copied")) : warn(t("common.copyFailed"))))}>{t("common.copy")}</button>
            <button type="button" className="button" onClick={() => void outbox.retry(parcel.uuid)}>{t("common.retry")}</button>
            <button type="button" className="button danger" onClick={() => setDiscard(parcel)}>{t("label.outbox.discard")}</button>
          </div>
        </section>
      ))}
      {discard ? <Confirm title={t("label.outbox.discardTitle")} text={t("label.outbox.discardText")} action={t("label.outbox.discard")} onConfirm={() => void outbox.takeBack(discard.uuid)} onClose={() => setDiscard(null)} /> : null}
    </Dialog>
  );
}

/** A label as its author would write it down. */
function readable({ value, payload }: LabelBody): string {
  const lines = [value.ranking, value.verdict, value.likert?.join(" "), ...(payload?.messages ?? []).map((message) => `${message.role}: ${message.content}`), payload?.comment];
  return lines.filter(Boolean).join("\n\n");
}
