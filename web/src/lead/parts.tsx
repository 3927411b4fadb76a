import type { UseQueryResult } from "@tanstack/react-query";
import { Bot, Check, ChevronLeft, ChevronRight, FlaskConical, TriangleAlert, User } from "lucide-react";
import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { formatNumber } from "../lib/format";
import { Few, isEnough } from "../ui/few";
import { Field, Spinner } from "../ui/fields";

const ICONS = { human: User, simulated: FlaskConical, ai: Bot };
export const KINDS = ["human", "simulated", "ai"] as const;
export type Kind = (typeof KINDS)[number];

/** Who labelled: a person, a program that follows a rubric, or a model. Never left unsaid. */
export function KindBadge({ kind }: { kind: string }) {
  const { t } = useTranslation();
  const known = KINDS.find((each) => each === kind);
  if (!known) return <span className="badge">{kind}</span>;
  const Icon = ICONS[known];
  return <span className={`badge kind kind-${known}`}><Icon size={13} aria-hidden />{t(`lead.kinds.${known}`)}</span>;
}

/** A value with its interval on a scale; `mark` is the value that would mean "no difference". */
export function Interval(props: { low: number; point: number; high: number; from?: number; to?: number; mark?: number; text: string }) {
  const { from = 0, to = 1, mark } = props;
  const x = (value: number) => 2 + (96 * (Math.min(Math.max(value, from), to) - from)) / (to - from);
  return (
    <svg className="interval" viewBox="0 0 100 22" preserveAspectRatio="none" role="img" aria-label={props.text}>
      <line className="scale" x1="2" x2="98" y1="11" y2="11" vectorEffect="non-scaling-stroke" />
      {mark === undefined ? null : <line className="mark" x1={x(mark)} x2={x(mark)} y1="1" y2="21" vectorEffect="non-scaling-stroke" />}
      <line x1={x(props.low)} x2={x(props.high)} y1="11" y2="11" vectorEffect="non-scaling-stroke" />
      <line className="point" x1={x(props.point)} x2={x(props.point)} y1="4" y2="18" vectorEffect="non-scaling-stroke" />
    </svg>
  );
}

/** An interval drawn and in figures; with too few observations it says so instead. */
export function Spread({ count, unit, show, ...interval }: { count: number; unit: "labels" | "tasks" | "comparisons"; low: number; point: number; high: number; from?: number; to?: number; mark?: number; show: (value: number) => string }) {
  const { t } = useTranslation();
  const { low, high } = interval;
  if (!isEnough(count, low, high)) return <Few count={count} unit={unit} />;
  return <><Interval {...interval} text={t("board.between", { low: show(low), high: show(high) })} /><span className="soft small nowrap">{show(low)} – {show(high)}</span></>;
}

/** How much of something is done, as a bar with its figures. */
export function Progress({ done, all, label }: { done: number; all: number; label: string }) {
  const { i18n } = useTranslation();
  return (
    <div className="progress-row">
      <progress className="bar" max={Math.max(all, 1)} value={Math.min(done, Math.max(all, 1))} aria-label={label} />
      <span className="soft small number">{formatNumber(done, i18n.language)} / {formatNumber(all, i18n.language)}</span>
    </div>
  );
}

export function Figure({ value, text, note }: { value: ReactNode; text: string; note?: ReactNode }) {
  return <div className="figure"><strong>{value}</strong><span className="soft small">{text}</span>{note ? <div className="small">{note}</div> : null}</div>;
}

export function Warning({ children, calm }: { children: ReactNode; calm?: boolean }) {
  return <p className={calm ? "notice calm" : "notice"}><TriangleAlert size={17} aria-hidden />{children}</p>;
}

/** A card with a heading of its own. */
export function Section({ title, text, tools, children }: { title: string; text?: string | undefined; tools?: ReactNode; children: ReactNode }) {
  return (
    <section className="card stack section">
      <div className="row wrap"><h2 className="grow">{title}</h2>{tools}</div>
      {text ? <p className="soft small">{text}</p> : null}
      {children}
    </section>
  );
}

/** A table that scrolls by itself on a narrow page, and by keyboard. */
export function Table({ label, head, children }: { label: string; head: ReactNode; children: ReactNode }) {
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label={label}>
      <table className="data"><thead><tr>{head}</tr></thead><tbody>{children}</tbody></table>
    </div>
  );
}

export function Empty({ icon, title, text }: { icon: ReactNode; title: string; text?: string }) {
  return <div className="empty">{icon}<h2>{title}</h2>{text ? <p>{text}</p> : null}</div>;
}

/** What a query brought, or that it is on its way, or why it did not come, with a way to try again. */
export function Loaded<T>({ query, children }: { query: UseQueryResult<T>; children: (data: T) => ReactNode }) {
  const { t } = useTranslation();
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (!query.isError) return <Spinner label={t("common.loading")} />;
  return (
    <div className="empty" role="alert">
      <p>{messageOf(query.error, t)}</p>
      <button type="button" className="button" onClick={() => void query.refetch()}>{t("common.retry")}</button>
    </div>
  );
}

/** Pages by number: `page` counts from 0. */
export function Pager({ page, size, total, onPage }: { page: number; size: number; total: number; onPage: (page: number) => void }) {
  const { t, i18n } = useTranslation();
  const number = (value: number) => formatNumber(value, i18n.language);
  if (total <= size && page === 0) return <p className="soft small">{t("lead.pages.all", { count: total, total: number(total) })}</p>;
  return (
    <nav className="row end" aria-label={t("lead.pages.label")}>
      <span className="soft small grow">{t("lead.pages.range", { from: number(page * size + 1), to: number(Math.min((page + 1) * size, total)), total: number(total) })}</span>
      <button type="button" className="icon-button" disabled={page === 0} aria-label={t("lead.pages.previous")} onClick={() => onPage(page - 1)}><ChevronLeft size={18} aria-hidden /></button>
      <button type="button" className="icon-button" disabled={(page + 1) * size >= total} aria-label={t("lead.pages.next")} onClick={() => onPage(page + 1)}><ChevronRight size={18} aria-hidden /></button>
    </nav>
  );
}

/** Kinds of labellers to count; none chosen means all. */
export function KindFilter({ value, onChange }: { value: readonly string[]; onChange: (kinds: Kind[]) => void }) {
  const { t } = useTranslation();
  return (
    <div className="segments several" role="group" aria-label={t("lead.kinds.label")}>
      {KINDS.map((kind) => {
        const on = value.includes(kind);
        return <button key={kind} type="button" aria-pressed={on} onClick={() => onChange(KINDS.filter((each) => (each === kind ? !on : value.includes(each))))}>{on ? <Check size={14} aria-hidden /> : null}{t(`lead.kinds.${kind}`)}</button>;
      })}
    </div>
  );
}

/** A choice of one; the empty value, where there is one, stands for "all". */
export function Select<T extends string>(props: { label: string; value: T; options: readonly (readonly [T, string])[]; onChange: (value: T) => void }) {
  return (
    <Field label={props.label}>
      {(ids) => (
        <select className="input" {...ids} value={props.value} onChange={(event) => props.onChange(event.target.value as T)}>
          {props.options.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
        </select>
      )}
    </Field>
  );
}
