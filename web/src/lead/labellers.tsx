import { Users } from "lucide-react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { useSession } from "../api/session";
import { formatNumber } from "../lib/format";
import type { Dashboard } from "./api";
import { useNames } from "./names";
import { Empty, KindBadge, Section, Spread, Table } from "./parts";
import { duration, shareText } from "./text";

const FAST_SHARE = 0.1;

/** Who labels, how much, how fast, and how far to be trusted. */
export function Labellers({ lines }: { lines: Dashboard["labellers"] }) {
  const { t, i18n } = useTranslation();
  const nameOf = useNames();
  const admin = useSession().role === "admin";
  if (!lines.length) return (
    <div className="card">
      <Empty icon={<Users size={32} aria-hidden />} title={t("lead.people.none")} text={admin ? t("lead.people.noneText") : t("lead.people.noneTextLead")} />
      <div className="center-row row wrap">
        <Link className="button" href="/lead/transfer">{t("lead.import.title")}</Link>
        {admin ? <Link className="button" href="/settings/users">{t("users.invite")}</Link> : null}
        <Link className="button" href="/lead/jobs">{t("lead.tabs.jobs")}</Link>
      </div>
    </div>
  );
  return (
    <Section title={t("lead.people.title")} text={t("lead.people.text")}>
      <Table label={t("lead.people.title")} head={<>
        <th>{t("lead.people.labeller")}</th><th className="number">{t("lead.dash.labels")}</th><th className="number">{t("lead.people.seconds")}</th><th className="number">{t("lead.people.tooFast")}</th>
        <th>{t("lead.people.agreement")}</th><th className="number">{t("lead.people.ties")}</th><th className="number">{t("lead.people.gold")}</th><th className="number">{t("lead.people.reliability")}</th><th className="number">{t("lead.people.skipped")}</th>
      </>}>
        {lines.map((line) => (
          <tr key={line.labeller}>
            <td><Link href={`/lead/data?labeller=${encodeURIComponent(line.labeller)}`}>{nameOf(line.labeller)}</Link> <KindBadge kind={line.kind} /></td>
            <td className="number" title={Object.entries(line.labels).map(([kind, count]) => `${t(`lead.tasks.${kind}`)}: ${count}`).join(", ")}>{formatNumber(Object.values(line.labels).reduce((sum, count) => sum + count, 0), i18n.language)}</td>
            <td className="number">{!line.median_seconds ? "–" : duration(line.median_seconds, t)}</td>
            <td className="number">{line.too_fast > FAST_SHARE ? <span className="badge warn">{shareText(line.too_fast)}</span> : shareText(line.too_fast)}</td>
            <td>{line.agreement ? <><strong>{shareText(line.agreement.value)}</strong> <Spread count={line.labels["rank"] ?? 0} unit="labels" low={line.agreement.low} point={line.agreement.value} high={line.agreement.high} show={shareText} /></> : "–"}</td>
            <td className="number">{shareText(line.ties)}</td>
            <td className="number">{line.gold_tau_b === null ? "–" : `${line.gold_tau_b.toFixed(2)} (${line.num_gold})`}</td>
            <td className="number">{line.reliability === null ? "–" : <strong>{shareText(line.reliability)}</strong>}</td>
            <td className="number">{line.skipped} / {line.flagged}</td>
          </tr>
        ))}
      </Table>
    </Section>
  );
}
