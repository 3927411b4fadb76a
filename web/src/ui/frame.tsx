import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { ChartNoAxesCombined, Keyboard, ListOrdered, LogOut, Menu as MenuIcon, MessageSquarePlus, NotebookText, PanelLeftClose, Settings, Swords, WifiOff } from "lucide-react";
import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { flushSync } from "react-dom";
import { useTranslation } from "react-i18next";
import { tinykeys } from "tinykeys";
import { Link, useLocation } from "wouter";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { useAway, useSession, useSetSession } from "../api/session";
import { ConversationList } from "../chat/list";
import { forgetDrafts } from "../lib/drafts";
import { isComposing, isTyping } from "../lib/ime";
import { Shortcuts } from "./shortcuts";
import { warn } from "./toast";

const SideContext = createContext<{ open: boolean; setOpen: (open: boolean) => void }>({ open: true, setOpen: () => {} });

const narrow = () => matchMedia("(max-width: 800px)").matches;

/** The button that brings the side bar back; every page puts it at the start of its top row. */
export function SideButton() {
  const { t } = useTranslation();
  const side = useContext(SideContext);
  if (side.open) return null;
  return <button type="button" className="icon-button" aria-label={t("side.open")} title={t("side.open")} onClick={() => side.setOpen(true)}><MenuIcon size={19} aria-hidden /></button>;
}

/** Labels that a former visit could not send go out from whatever page is opened; the desk's code comes only when there are any. */
async function sendWaiting(user: string, queries: QueryClient): Promise<void> {
  let waiting: string | null = null;
  try {
    waiting = localStorage.getItem("label.waiting");
  } catch {
    // Storage may be switched off: then nothing can wait there.
  }
  if (waiting) await import("../label/desk").then(({ outboxOf }) => outboxOf(user, queries).drain(), () => undefined);
}

/** Side bar and page of somebody who is signed in. */
export function Frame({ children }: { children: ReactNode }) {
  const { t } = useTranslation();
  const [location, navigate] = useLocation();
  const queries = useQueryClient();
  const [open, setOpen] = useState(() => !narrow());
  const [help, setHelp] = useState(false);
  const setSession = useSetSession();
  const { role, user_id: user } = useSession();
  const away = useAway();
  const side = useMemo(() => ({ open, setOpen }), [open]);

  useEffect(() => { if (narrow()) setOpen(false); }, [location]);
  useEffect(() => { if (!away) void sendWaiting(user, queries); }, [away, user, queries]);
  useEffect(() => {
    const always = (action: () => void) => (event: KeyboardEvent) => { if (!isComposing(event)) { event.preventDefault(); action(); } };
    const letters: Record<string, () => void> = {
      "?": () => setHelp(true),
      "/": () => document.getElementById("composer")?.querySelector("textarea")?.focus(),
    };
    // By the character: which keys make it depends on the keyboard.
    const onLetter = (event: KeyboardEvent) => {
      const action = letters[event.key];
      if (!action || event.ctrlKey || event.metaKey || isTyping(event.target) || isComposing(event) || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      action();
    };
    addEventListener("keydown", onLetter);
    const release = tinykeys(window, {
      "$mod+Shift+o": always(() => navigate("/")),
      "$mod+k": always(() => { flushSync(() => setOpen(true)); document.getElementById("search")?.focus(); }),
      "$mod+b": always(() => setOpen((now) => !now)),
    });
    return () => { release(); removeEventListener("keydown", onLetter); };
  }, [navigate]);

  async function signOut() {
    try {
      const session = await ok(client.DELETE("/api/session"));
      await forgetDrafts(user); // before the page of the next person is there
      setSession(session);
    } catch (failure) {
      return warn(messageOf(failure, t));
    }
    await import("../label/store").then(({ browserStore, closeOpen }) => closeOpen(browserStore, user), () => undefined);
  }

  const labels = role !== "member" ? ([["/label", t("label.title"), ListOrdered]] as const) : [];
  const leads = ["lead", "admin"].includes(role) ? [["/lead", t("lead.title"), ChartNoAxesCombined] as const] : [];
  const links = [...labels, ...leads, ["/arena", t("side.arena"), Swords], ["/prompts", t("side.prompts"), NotebookText], ["/settings", t("side.settings"), Settings]] as const;
  return (
    <SideContext value={side}>
      <a className="skip" href="#main">{t("side.skip")}</a>
      <div className={open ? "frame" : "frame no-side"}>
        {open ? (
          <nav className="side" aria-label={t("side.label")} onKeyDown={(event) => event.key === "Escape" && narrow() && setOpen(false)}>
            <div className="side-head">
              <Link className="brand grow" href="/"><img src="/icon.svg" alt="" />Chatwright</Link>
              <Link className="icon-button" href="/" aria-label={t("side.new")} title={t("side.new")}><MessageSquarePlus size={18} aria-hidden /></Link>
              <button type="button" className="icon-button" aria-label={t("side.close")} title={t("side.close")} onClick={() => setOpen(false)}><PanelLeftClose size={18} aria-hidden /></button>
            </div>
            <ConversationList />
            <div className="side-foot">
              {links.map(([href, label, Icon]) => (
                <Link key={href} href={href} aria-current={location.startsWith(href) ? "page" : undefined}><Icon size={17} aria-hidden />{label}</Link>
              ))}
              <div className="row">
                <button type="button" className="sign-out grow" onClick={() => void signOut()}><LogOut size={17} aria-hidden />{t("side.signOut")}</button>
                <button type="button" className="icon-button" aria-label={t("keys.title")} title={`${t("keys.title")} (?)`} onClick={() => setHelp(true)}><Keyboard size={17} aria-hidden /></button>
              </div>
            </div>
          </nav>
        ) : null}
        {open ? <button type="button" className="scrim" aria-label={t("side.close")} onClick={() => setOpen(false)} /> : null}
        <main className="main" id="main" tabIndex={-1}>{away ? <p className="notice away" role="status"><WifiOff size={17} aria-hidden />{t("offline.away")}</p> : null}{children}</main>
      </div>
      {help ? <Shortcuts onClose={() => setHelp(false)} /> : null}
    </SideContext>
  );
}
