import { useQuery } from "@tanstack/react-query";
import { Square, Swords, Trophy } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import client, { ok, request, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { isSendKey } from "../lib/ime";
import { useTitle } from "../lib/title";
import { readEvents } from "../lib/sse";
import { Field } from "../ui/fields";
import { SideButton } from "../ui/frame";
import { warn } from "../ui/toast";
import { Version } from "../ui/version";

type Battle = Schemas["BattleInfo"];
type Vote = Schemas["NewVote"]["vote"];

const path = (battle: { id: string }) => ({ params: { path: { battle_id: battle.id } } });
const blank = { text: "", status: "streaming", finish_reason: "", name: null, model_version: null } as const;

/** Two answers, nobody knows by whom; the names come after the vote. */
export default function Arena() {
  const { t } = useTranslation();
  useTitle(t("arena.title"));
  const [prompt, setPrompt] = useState("");
  const [battle, setBattle] = useState<Battle | null>(null);
  const [starting, setStarting] = useState(false);
  const current = useRef("");
  const entrants = useQuery({ queryKey: ["entrants"], queryFn: () => ok(client.GET("/api/arena/entrants")) });
  const running = battle !== null && [battle.a, battle.b].some((side) => side.status === "streaming");
  const enough = (entrants.data?.length ?? 2) >= 2;
  const complain = (failure: unknown) => warn(messageOf(failure, t));
  useEffect(() => () => { current.current = ""; }, []);

  async function begin() {
    const asked = prompt.trim();
    if (!asked || starting || running) return;
    setStarting(true);
    try {
      const response = await request("/api/arena/battles", { method: "POST", body: JSON.stringify({ prompt: asked }) });
      setPrompt("");
      await listen(response, asked);
    } catch (failure) {
      complain(failure);
    }
    setStarting(false);
  }

  async function listen(response: Response, asked: string) {
    let id = "";
    try {
      for await (const { event, data } of readEvents(response.body!)) {
        const { battle_id, side, text = "" } = data as { battle_id: string; side: "a" | "b"; text?: string };
        if (!id) {
          id = battle_id;
          current.current = id;
          setStarting(false);
          setBattle({ id, prompt: asked, a: blank, b: blank, vote: null, void: "" });
        }
        if (current.current !== id) return;
        if (event === "delta") setBattle((now) => now && { ...now, [side]: { ...now[side], text: now[side].text + text } });
      }
    } catch {
      // The connection broke; the battle is read again until it is over.
    }
    await settle(id);
  }

  async function settle(id: string) {
    while (id && current.current === id) {
      const read = await ok(client.GET("/api/arena/battles/{battle_id}", path({ id }))).catch(() => null);
      if (read && current.current === id) setBattle((now) => (now?.vote ? now : read));
      if (read && read.a.status !== "streaming" && read.b.status !== "streaming") return;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  async function vote(choice: Vote) {
    if (!battle) return;
    try {
      setBattle(await ok(client.POST("/api/arena/battles/{battle_id}/vote", { ...path(battle), body: { vote: choice } })));
    } catch (failure) {
      complain(failure);
    }
  }

  const votes: [Vote, string][] = [["a", t("arena.a")], ["b", t("arena.b")], ["tie", t("arena.tie")], ["both_bad", t("arena.bothBad")]];
  return (
    <>
      <header className="top"><SideButton /><span className="grow" /><Link className="button plain" href="/arena/board"><Trophy size={16} aria-hidden />{t("arena.board")}</Link></header>
      <div className="page">
        <div className="page-inner">
          <div className="page-head"><div className="grow"><h1>{t("arena.title")}</h1><p>{t("arena.text")}</p></div></div>
          {!enough ? <div className="empty card"><Swords size={34} aria-hidden /><h2>{t("arena.few")}</h2><p>{t("arena.fewText")}</p><Link className="button" href="/arena/board">{t("arena.addEntrant")}</Link></div> : (
            <form className="stack" onSubmit={(event) => { event.preventDefault(); void begin(); }}>
              <Field label={t("arena.prompt")}>
                {(ids) => <textarea dir="auto" className="input" {...ids} rows={3} maxLength={20_000} value={prompt} placeholder={t("arena.placeholder")} onChange={(event) => setPrompt(event.target.value)} onKeyDown={(event) => { if (isSendKey(event.nativeEvent)) { event.preventDefault(); void begin(); } }} />}
              </Field>
              <div className="row end"><button className="button primary" disabled={!prompt.trim() || starting || running}><Swords size={16} aria-hidden />{t("arena.begin")}</button></div>
            </form>
          )}
          {battle ? (
            <section className="stack" aria-label={t("arena.battle")} aria-live="polite" aria-busy={running}>
              <div className="message-user"><div className="bubble" dir="auto">{battle.prompt}</div></div>
              <div className="arena-answers">
                {(["a", "b"] as const).map((side) => (
                  <article key={side} className={battle.vote === side ? "card arena-answer chosen" : "card arena-answer"} aria-label={side === "a" ? t("arena.answerA") : t("arena.answerB")}>
                    <h2><span>{side === "a" ? t("arena.answerA") : t("arena.answerB")}</span>{battle[side].name ? <span className="badge accent" data-testid={`name-${side}`}>{battle[side].name}</span> : null}{battle[side].name ? <Version of={battle[side].model_version ?? ""} /> : null}</h2>
                    {battle[side].text ? <LazyMarkdown text={battle[side].text} eager /> : battle[side].status === "streaming" ? <div className="thinking"><i /><i /><i /></div> : null}
                    {battle[side].status === "error" ? <p className="notice danger">{t("message.failed")}</p> : null}
                  </article>
                ))}
              </div>
              {running ? (
                <div className="row"><button type="button" className="button" onClick={() => void ok(client.POST("/api/arena/battles/{battle_id}/stop", path(battle))).then(setBattle, complain)}><Square size={14} aria-hidden />{t("composer.stop")}</button></div>
              ) : battle.vote ? (
                <p className={battle.void ? "notice" : "notice calm"} role="status">{battle.void ? t("arena.void") : t("arena.thanks", { vote: votes.find(([each]) => each === battle.vote)?.[1] })}</p>
              ) : (
                <div className="votes" role="group" aria-label={t("arena.vote")}>{votes.map(([each, label]) => <button key={each} type="button" className="button" onClick={() => void vote(each)}>{label}</button>)}</div>
              )}
            </section>
          ) : null}
        </div>
      </div>
    </>
  );
}
