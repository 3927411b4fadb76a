import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ChevronDown, Download, Globe, Languages, Link2, SlidersHorizontal, Trash2, WifiOff } from "lucide-react";
import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLocation, useParams } from "wouter";
import { changeConversation, defaultSettings, deleteConversation, modelsQuery, type Message, type Settings } from "../api/chat";
import client, { ApiError, ok, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { useAway, useSession } from "../api/session";
import { download } from "../lib/format";
import { useTitle } from "../lib/title";
import { Confirm } from "../ui/dialog";
import { SideButton } from "../ui/frame";
import { Menu } from "../ui/menu";
import { toast, warn } from "../ui/toast";
import { Spinner } from "../ui/fields";
import { Composer } from "./composer";
import { FeedbackDialog, ShareDialog } from "./dialogs";
import { type MessageActions } from "./message";
import { ModelPicker, ScriptPicker, SettingsPanel } from "./panel";
import { takeInsert } from "./insert";
import { threadOf, useThread, type Thread } from "./thread";
import { ThreadView } from "./thread-view";
import { elsewhere, Welcome } from "./welcome";
import { leafBelow, pathTo, treeOf } from "./tree";

type Open = "models" | "panel" | "script" | "share" | "delete" | null;

export default function ChatPage() {
  const { t } = useTranslation();
  const { id } = useParams<{ id?: string }>();
  const [, navigate] = useLocation();
  const queries = useQueryClient();
  const thread = id ? threadOf(id, queries) : null;
  const { thread: state, conversation, live, asking, phase, lost } = useThread(thread);
  const { data: available = [] } = useQuery(modelsQuery);
  const [open, setOpen] = useState<Open>(null);
  const [rated, setRated] = useState<{ message: Message; vote: "up" | "down" } | null>(null);
  const [insert, setInsert] = useState<{ text: string } | null>(null);
  const [fresh, setFresh] = useState<{ system: string; settings: Settings }>({ system: "", settings: defaultSettings });
  const [chosen, setChosen] = useState<string[]>([]);
  const [sending, setSending] = useState("");
  const { user_id: user } = useSession();
  const input = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (thread) void thread.load();
    setChosen(thread?.chosen ?? []);
    const waiting = takeInsert();
    if (waiting) {
      if (waiting.system !== undefined) setFresh((now) => ({ ...now, system: waiting.system ?? "" }));
      else if (waiting.text) setInsert({ text: waiting.text });
    }
    if (matchMedia("(pointer: fine)").matches) input.current?.focus();
  }, [thread]);

  const fallback = available.find((model) => model.default)?.name ?? "";
  const models = chosen.length ? chosen : [conversation?.model || fallback];
  const settings = conversation?.settings ?? fresh.settings;
  const system = conversation?.system ?? fresh.system;
  const infos = available.filter((model) => models.includes(model.name));
  const far = elsewhere(infos);
  const answering = live.size > 0;
  const busy = answering || asking;
  const tree = useMemo(() => treeOf(state.messages), [state.messages]);
  const path = useMemo(() => pathTo(tree, state.leaf), [tree, state.leaf]);
  useTitle(conversation?.title || t("side.new"));
  useEffect(() => { const timer = setTimeout(() => void import("./markdown").catch(() => undefined), 1500); return () => clearTimeout(timer); }, []); // it is there before the first answer
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && answering && !document.querySelector("dialog[open], :popover-open")) void thread?.stop();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [answering, thread]);

  const complain = useCallback((failure: unknown) => warn(messageOf(failure, t)), [t]);

  async function send(text: string): Promise<boolean> {
    setSending(text);
    try {
      let target = thread;
      if (!target) {
        const made = await ok(client.POST("/api/conversations", { body: { title: "", system: fresh.system, model: models[0] ?? "", settings: fresh.settings } }));
        target = threadOf(made.id, queries);
        target.adopt(made);
        target.chosen = chosen; // the page of the new chat is another one
      }
      const parent = pathTo(treeOf(target.get().thread.messages), target.get().thread.leaf).at(-1)?.id ?? null;
      await target.ask(`/api/conversations/${target.id}/messages`, { content: text, parent_id: parent, ...(chosen.length ? { models: chosen } : {}) }, { content: text, parent });
      if (!id) navigate(`/c/${target.id}`);
      void queries.invalidateQueries({ queryKey: ["conversations"] });
      return true;
    } catch (failure) {
      complain(failure);
      return false;
    } finally {
      setSending("");
    }
  }

  const actions = useMemo<MessageActions>(() => {
    const run = (action: Promise<unknown>) => void action.catch(complain);
    return {
      edit: (message, text) => {
        run(thread!.ask(`/api/messages/${message.id}/edit`, { content: text }, { content: text, parent: message.parent_id }));
        if (matchMedia("(pointer: fine)").matches) input.current?.focus(); // the field that was edited is gone
      },
      regenerate: (message) => run(thread!.ask(`/api/messages/${message.id}/regenerate`, {}, null, "regenerate")),
      branch: (message, token, alternative) => run(thread!.ask(`/api/messages/${message.id}/branch`, { token, alternative }, null, "branch")),
      select: (message) => {
        const leaf = leafBelow(treeOf(thread!.get().thread.messages), message.id);
        thread!.select(leaf);
        run(changeConversation(thread!.id, { active_leaf: leaf }));
      },
      rate: (message, vote) => {
        const next = message.feedback?.vote === vote ? "none" : vote;
        keepFeedback(thread!, message.id, { vote: next, reasons: [], comment: "" }).catch(complain);
        if (next !== "none") setRated({ message, vote });
      },
    };
  }, [thread, complain]);

  async function save(change: { system?: string; settings?: Settings }) {
    if (!thread) return setFresh((now) => ({ ...now, ...change }));
    const told = changeConversation(thread.id, change);
    thread.update(change, told);
    try {
      await told;
    } catch (failure) {
      complain(failure);
      void thread.load();
    }
  }

  async function pick(list: string[]) {
    setChosen(list);
    if (thread) thread.chosen = list;
    if (thread && list.length === 1 && list[0]) {
      const told = changeConversation(thread.id, { model: list[0] });
      thread.update({ model: list[0] }, told);
      await told.catch(complain);
    }
  }

  async function saveAs(format: "json" | "markdown") {
    try {
      const response = await fetch(`/api/conversations/${id}/export?format=${format}`);
      if (!response.ok) throw new ApiError(response.status, response.statusText, "");
      download(`${(conversation?.title || "chat").replace(/[\\/:*?"<>|]/g, "_").slice(0, 60)}.${format === "json" ? "json" : "md"}`, await response.blob());
    } catch (failure) {
      complain(failure);
    }
  }

  if (phase === "missing") return <div className="empty grow"><h1>{t("chat.missing")}</h1><p>{t("chat.missingText")}</p><button type="button" className="button" onClick={() => navigate("/")}>{t("side.new")}</button></div>;

  return (
    <>
      <header className="top">
        <SideButton />
        <button type="button" className="model-button" aria-haspopup="dialog" onClick={() => setOpen("models")}>
          <span className="ellipsis">{models.length > 1 ? t("models.count", { count: models.length }) : models[0] || t("models.title")}</span>{far ? <Globe size={15} aria-label={t("welcome.passedOn", { names: far })} /> : null}<ChevronDown size={15} aria-hidden />
        </button>
        {path.length ? <h1 className="sr-only">{conversation?.title || t("side.untitled")}</h1> : null}
        <span className="grow" />
        {id ? (
          <>
            <button type="button" className="icon-button" aria-label={t("share.title")} title={t("share.title")} onClick={() => setOpen("share")}><Link2 size={18} aria-hidden /></button>
            <Menu label={t("chat.more")} items={[
              { label: t("chat.exportMarkdown"), icon: <Download size={15} aria-hidden />, onSelect: () => void saveAs("markdown") },
              { label: t("chat.exportJson"), icon: <Download size={15} aria-hidden />, onSelect: () => void saveAs("json") },
              { label: t("common.delete"), icon: <Trash2 size={15} aria-hidden />, danger: true, onSelect: () => setOpen("delete") },
            ]} />
          </>
        ) : null}
      </header>
      {phase === "loading" ? <Spinner label={t("common.loading")} />
        : phase === "failed" ? <div className="empty grow"><h2>{t("offline.title")}</h2><button type="button" className="button" onClick={() => void thread?.load()}>{t("common.retry")}</button></div>
        : path.length || sending ? <ThreadView key={id} tree={tree} path={path} busy={busy} sending={sending} actions={actions} />
        : <Welcome models={infos} onPick={(text) => setInsert({ text })} />}
      <div className="composer-wrap" id="composer">
        <Banner lost={lost} />
        <Composer
          draftKey={`${user}/${id ?? "new"}`} waiting={asking} answering={answering} inputRef={input} insert={insert} onSend={send} onStop={() => void thread?.stop()}
          tools={
            <>
              <button type="button" className={system || !isDefault(settings) ? "pill on" : "pill"} aria-haspopup="dialog" onClick={() => setOpen("panel")}><SlidersHorizontal size={15} aria-hidden />{t("panel.button")}</button>
              <button type="button" className={settings.script ? "pill on" : "pill"} aria-haspopup="dialog" onClick={() => setOpen("script")}><Languages size={15} aria-hidden />{settings.script ? `${t("script.button")}: ${settings.script}` : t("script.button")}</button>
            </>
          }
        />
        <p className="composer-foot">{t("composer.foot")}</p>
      </div>
      {open === "models" ? <ModelPicker chosen={models} onChange={(list) => void pick(list)} onClose={() => setOpen(null)} /> : null}
      {open === "panel" ? <SettingsPanel system={system} settings={settings} onSave={(nextSystem, nextSettings) => void save({ system: nextSystem, settings: nextSettings })} onClose={() => setOpen(null)} /> : null}
      {open === "script" ? <ScriptPicker value={settings.script} onChange={(script) => void save({ settings: { ...settings, script } })} onClose={() => setOpen(null)} /> : null}
      {open === "share" && id ? <ShareDialog conversationId={id} link={conversation?.share ?? null} onChange={(share) => thread?.update({ share })} onClose={() => setOpen(null)} /> : null}
      {open === "delete" && id ? (
        <Confirm title={t("side.deleteTitle")} text={t("side.deleteText", { title: conversation?.title ?? "" })} action={t("common.delete")} onClose={() => setOpen(null)}
          onConfirm={() => void deleteConversation(id).then(() => { void queries.invalidateQueries({ queryKey: ["conversations"] }); navigate("/"); }, complain)} />
      ) : null}
      {rated ? (
        <FeedbackDialog message={rated.message} vote={rated.vote} onClose={() => setRated(null)}
          onSave={(reasons, comment) => void keepFeedback(thread!, rated.message.id, { vote: rated.vote, reasons, comment }).then(() => toast(t("feedback.thanks")), complain)} />
      ) : null}
    </>
  );
}

/** Shown at once; when the server refuses it, what the server has is shown again. */
async function keepFeedback(thread: Thread, id: string, feedback: Schemas["NewFeedback"] & NonNullable<Message["feedback"]>): Promise<void> {
  const told = ok(client.POST("/api/messages/{message_id}/feedback", { params: { path: { message_id: id } }, body: feedback }));
  thread.patch(id, { feedback }, told);
  try {
    await told;
  } catch (failure) {
    void thread.load();
    throw failure;
  }
}

/** How answers are drawn, apart from the script, which has a button of its own. */
const isDefault = (settings: Settings) => JSON.stringify({ ...defaultSettings, ...settings, script: "" }) === JSON.stringify({ ...defaultSettings, script: "" });

function Banner({ lost }: { lost: boolean }) {
  const { t } = useTranslation();
  const away = useAway();
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const update = () => setOnline(navigator.onLine);
    addEventListener("online", update);
    addEventListener("offline", update);
    return () => { removeEventListener("online", update); removeEventListener("offline", update); };
  }, []);
  if ((online && !lost) || away) return null; // then the frame says it already
  return <div className="notice banner" role="status"><WifiOff size={17} aria-hidden />{lost ? t("offline.lost") : t("offline.offline")}</div>;
}

