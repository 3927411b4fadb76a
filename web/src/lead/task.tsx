import { useQuery, useQueryClient } from "@tanstack/react-query";
import { ArrowLeft } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { messageOf } from "../api/message";
import { LazyMarkdown } from "../chat/lazy-markdown";
import { formatDate, formatPercent } from "../lib/format";
import { toast, warn } from "../ui/toast";
import { resolveTask, taskQuery, type BrowsedLabel, type TaskDetail } from "./api";
import { State } from "./browse";
import { useNames } from "./names";
import { KindBadge, Loaded, Section, Table, Warning } from "./parts";
import { duration } from "./text";
import { Version } from "../ui/version";

/** One task with everything a lead may see: prompt, answers with their models, every label, how they were merged. */
export function TaskPage({ id }: { id: string }) {
  const { t } = useTranslation();
  const query = useQuery(taskQuery(id));
  return (
    <>
      <div><button type="button" className="button plain" onClick={() => history.length > 1 ? history.back() : location.assign("/lead/data")}><ArrowLeft size={16} aria-hidden />{t("lead.tabs.data")}</button></div>
      <Loaded query={query}>{(detail) => <Detail detail={detail} />}</Loaded>
    </>
  );
}

function Detail({ detail }: { detail: TaskDetail }) {
  const { t } = useTranslation();
  return (
    <>
      <Facts detail={detail} />
      <Section title={t("lead.data.prompt")}>
        {detail.messages.length ? detail.messages.map((message, at) => (
          <div key={at} className="record"><span className="soft small">{t(`label.roles.${message["role"] ?? "user"}`)}</span><LazyMarkdown text={message["content"] ?? ""} eager={at > detail.messages.length - 3} /></div>
        )) : <p className="record erased">{detail.task.erased ? t("lead.data.erased") : t("lead.data.noPrompt")}</p>}
      </Section>
      {detail.answers.length ? (
        <Section title={t("lead.data.answers")}>
          <div className="answers">
            {detail.answers.map((answer) => (
              <div key={answer.letter} className="record">
                <div className="row wrap"><span className="letter">{answer.letter}</span><span className="soft small grow">{answer.model} <Version of={answer.model_version} /></span>{answer.finish_reason === "length" ? <span className="badge warn">{t("lead.data.cut")}</span> : null}</div>
                {answer.text === null ? <p className="erased soft">{t("lead.data.erased")}</p> : <LazyMarkdown text={answer.text} eager />}
              </div>
            ))}
          </div>
        </Section>
      ) : null}
      <Section title={t("lead.data.labels", { count: detail.labels.length })}>
        {detail.labels.length ? detail.labels.map((label) => <Label key={label.uuid} label={label} />) : <p className="soft">{t("lead.data.noLabels")}</p>}
      </Section>
      <History events={detail.events} />
    </>
  );
}

function History({ events }: { events: TaskDetail["events"] }) {
  const { t, i18n } = useTranslation();
  const nameOf = useNames();
  return (
    <Section title={t("lead.data.history")}>
      <Table label={t("lead.data.history")} head={<><th>{t("audit.at")}</th><th>{t("audit.action")}</th><th>{t("lead.jobs.by")}</th></>}>
        {events.map((event, at) => <tr key={at}><td className="nowrap">{formatDate(event.at, i18n.language)}</td><td>{t(`lead.events.${event.kind.replace(".", "_")}`, { defaultValue: event.kind })}</td><td>{nameOf(event.actor)} {event.kind === "label.submitted" ? <KindBadge kind={event.actor_kind} /> : null}</td></tr>)}
      </Table>
    </Section>
  );
}

function Facts({ detail }: { detail: TaskDetail }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const { task, merged, gold } = detail;
  async function resolve(action: "clear" | "close") {
    try {
      await resolveTask(task.id, action);
      await queries.invalidateQueries({ queryKey: ["lead"] });
      toast(t(`lead.data.done_${action}`));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <Section title={t(`lead.tasks.${task.kind}`)} tools={task.flagged ? <><button type="button" className="button" onClick={() => void resolve("clear")}>{t("lead.data.clear")}</button><button type="button" className="button danger" onClick={() => void resolve("close")}>{t("lead.data.close")}</button></> : undefined}>
      {task.flagged ? <Warning>{t("lead.data.flaggedText", { count: task.flagged })}</Warning> : null}
      <dl className="facts">
        <dt>{t("lead.data.state")}</dt><dd><State state={task.state} /> {task.labels} / {task.overlap}</dd>
        <dt>{t("lead.data.source")}</dt><dd>{t(`lead.sources.${task.source}`, { defaultValue: task.source })} · {task.language} · {t(`lead.splits.${task.split}`)} · {formatDate(task.created_at, i18n.language)}</dd>
        {task.agreement === null ? null : <><dt>{t("lead.dash.agreement")}</dt><dd>{formatPercent(task.agreement)}</dd></>}
        {merged ? <><dt>{t("lead.data.ranking")}</dt><dd><span className="order">{merged.order}</span> <span className="soft small">{t(`lead.merge.${merged.method}`)} · {formatDate(merged.at, i18n.language)}</span>{merged.detail["cycle"] ? <> <span className="badge warn">{t("lead.data.cycle")}</span></> : null}</dd></> : null}
        {gold ? <><dt>{task.screening ? t("lead.data.screening") : t("lead.data.gold")}</dt><dd><span className="order">{gold}</span></dd></> : null}
        {detail.of_task ? <><dt>{t("lead.data.ofTask")}</dt><dd><Link className="mono" href={`/lead/data/${detail.of_task}`}>{detail.of_task}</Link></dd></> : null}
        <dt>{t("lead.data.id")}</dt><dd className="mono">{task.id}</dd>
      </dl>
    </Section>
  );
}

function Label({ label }: { label: BrowsedLabel }) {
  const { t, i18n } = useTranslation();
  const nameOf = useNames();
  const seconds = Object.values(label.seconds).reduce((sum, value) => sum + value, 0);
  const phases = Object.entries(label.seconds).filter(([, value]) => value > 0).map(([phase, value]) => `${t(`lead.phases.${phase}`)} ${duration(value, t)}`).join(", ");
  const notes = [
    ...(seconds ? [`${duration(seconds, t)}${phases ? ` (${phases})` : ""}`] : []),
    ...(label.gold_tau_b === null ? [] : [`${t("lead.people.gold")} ${label.gold_tau_b.toFixed(2)}`]),
    ...(label.shown_order ? [t("lead.labels.shown", { order: label.shown_order })] : []),
  ];
  return (
    <article className={label.state === "current" ? "record" : "record undone"}>
      <div className="row wrap">
        <strong>{nameOf(label.labeller)}</strong><KindBadge kind={label.labeller_kind} />
        {label.state === "current" ? null : <span className="badge">{t(`lead.labels.${label.state}`)}</span>}
        {label.too_fast ? <span className="badge warn">{t("lead.labels.tooFast")}</span> : null}
        {label.draft_model ? <span className="badge kind-ai">{t("lead.labels.draft", { model: label.draft_model })} <Version of={label.draft_version} /></span> : null}
        <span className="soft small grow end-text">{formatDate(label.at, i18n.language)}</span>
      </div>
      <Value value={label.value} />
      <Content content={label.content} />
      {notes.length ? <span className="soft small">{notes.join(" · ")}</span> : null}
    </article>
  );
}

type Said = { ranking?: string; unranked?: string[]; none_acceptable?: boolean; cannot_judge?: boolean; likert?: (number | null)[] | null; flags?: string[][] | null; verdict?: string | null; contradictions?: number };

function Value({ value }: { value: BrowsedLabel["value"] }) {
  const { t } = useTranslation();
  const said = value as Said;
  const letter = (at: number) => String.fromCharCode(65 + at);
  const flags = (said.flags ?? []).flatMap((list, at) => list.map((flag) => [letter(at), flag] as const));
  return (
    <div className="row wrap">
      {said.ranking ? <span className="order">{said.ranking}</span> : null}
      {said.verdict ? <strong>{t(`lead.verdicts.${said.verdict}`)}</strong> : null}
      {said.unranked?.length ? <span className="badge">{t("lead.labels.unranked", { letters: said.unranked.join(", ") })}</span> : null}
      {said.none_acceptable ? <span className="badge warn">{t("lead.labels.noneAcceptable")}</span> : null}
      {said.cannot_judge ? <span className="badge">{t("lead.labels.cannotJudge")}</span> : null}
      {said.likert?.some((score) => score !== null) ? <span>{said.likert.map((score, at) => <span key={at} className="badge">{letter(at)} {score ?? "–"}</span>)}</span> : null}
      {flags.map(([at, flag]) => <span key={`${at} ${flag}`} className="badge">{at}: {t(`label.flags.${flag}`)}</span>)}
      {said.contradictions ? <span className="badge warn">{t("lead.labels.contradictions", { count: said.contradictions })}</span> : null}
    </div>
  );
}

function Content({ content }: { content: BrowsedLabel["content"] }) {
  const { t } = useTranslation();
  const messages = (content?.["messages"] ?? []) as { role: string; content: string }[];
  const comment = content?.["comment"];
  return (
    <>
      {messages.map((message, at) => <div key={at}><span className="soft small">{t(`label.roles.${message.role}`)}</span><LazyMarkdown text={message.content} eager /></div>)}
      {typeof comment === "string" && comment ? <p className="soft" dir="auto">“{comment}”</p> : null}
    </>
  );
}
