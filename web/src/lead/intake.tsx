import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Funnel } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { messageOf } from "../api/message";
import { useSession } from "../api/session";
import { formatNumber } from "../lib/format";
import { Segments } from "../ui/fields";
import { toast, warn } from "../ui/toast";
import { collectNow, intakeQuery, type Intake } from "./api";
import { Days, perDay } from "./days";
import { Empty, Figure, Loaded, Section, Table } from "./parts";
import { Withdraw } from "./withdraw";

const SPANS = ["7", "30", "90"] as const;

/** What became of the traffic: how much each step let pass, and why the rest stayed out. */
export default function IntakePage() {
  const { t } = useTranslation();
  const admin = useSession().role === "admin";
  const [span, setSpan] = useState<(typeof SPANS)[number]>("30");
  const query = useQuery(intakeQuery(Number(span)));
  return (
    <>
      <div className="lead-tools"><p>{t("lead.intake.text")}</p><Segments label={t("lead.intake.span")} value={span} options={SPANS.map((each) => [each, t("lead.intake.days", { count: Number(each) })] as const)} onChange={setSpan} /></div>
      <Loaded query={query}>{(data) => <><Numbers data={data} /><FunnelTable data={data} /><Traffic data={data} days={Number(span)} /></>}</Loaded>
      {admin ? <Withdraw /> : null}
    </>
  );
}

function Numbers({ data }: { data: Intake }) {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const number = (value: number) => formatNumber(value, i18n.language);
  async function collect() {
    try {
      toast(t("lead.intake.collected", { count: (await collectNow()).tasks }));
      await queries.invalidateQueries({ queryKey: ["lead"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <div className="card figures">
      <Figure value={number(data.prompts)} text={t("lead.intake.prompts")} />
      <Figure value={number(data.accounts_agreed)} text={t("lead.intake.accounts")} />
      <Figure value={number(data.keys_agreed)} text={t("lead.intake.keys")} />
      <Figure value={number(data.waiting)} text={t("lead.intake.waiting")} note={<button type="button" className="button" onClick={() => void collect()}>{t("lead.intake.collect")}</button>} />
    </div>
  );
}

export const received = (data: Intake) => data.steps.find((step) => step.step === "received")?.count ?? 0;

/** Reasons as the server counts them; a new one is shown by its own name until it has a text. */
export function useReasons(): (reasons: Record<string, number>) => string {
  const { t, i18n } = useTranslation();
  return (reasons) => Object.entries(reasons).filter(([reason, count]) => reason && count).map(([reason, count]) => `${t(`lead.reasons.${reason}`, { defaultValue: reason.replaceAll("_", " ") })} ${formatNumber(count, i18n.language)}`).join(" · ");
}

export function FunnelTable({ data, brief }: { data: Intake; brief?: boolean }) {
  const { t, i18n } = useTranslation();
  const say = useReasons();
  const all = received(data);
  if (!all) return <div className="card"><Empty icon={<Funnel size={32} aria-hidden />} title={t("lead.intake.none")} text={t("lead.intake.noneText")} /></div>;
  const steps = brief ? data.steps.filter((step) => step.count || !step.keeps_out) : data.steps;
  const width = (count: number) => `${Math.min(100, (100 * count) / all)}%`;
  return (
    <Section title={t("lead.intake.funnel")} text={brief ? t("lead.intake.wholeServer") : t("lead.intake.funnelText", { limit: data.per_person, share: Math.round(data.held_out_share * 100) })}>
      <Table label={t("lead.intake.funnel")} head={<><th>{t("lead.intake.step")}</th><th className="number">{t("lead.intake.count")}</th><th className="funnel-cell"><span className="sr-only">{t("lead.intake.share")}</span></th><th>{t("lead.intake.why")}</th></>}>
        {steps.map((step) => (
          <tr key={step.step}>
            <td>{t(`lead.steps.${step.step}`)}</td><td className="number"><strong>{step.keeps_out && step.count ? "−" : ""}{formatNumber(step.count, i18n.language)}</strong></td>
            <td className="funnel-cell"><svg className={step.keeps_out ? "funnel out" : "funnel"} aria-hidden><rect width={width(step.count)} height="100%" rx="3" /></svg></td>
            <td className="soft small">{say(step.reasons)}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}

function Traffic({ data, days }: { data: Intake; days: number }) {
  const { t } = useTranslation();
  const taken = perDay(data.lines.filter((line) => line.step === "taken"), days);
  if (!taken.some((day) => day.count)) return null;
  return <Section title={t("lead.intake.perDay")}><Days days={taken} label={t("lead.intake.perDay")} /></Section>;
}
