import { useQuery } from "@tanstack/react-query";
import { ArrowLeft } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "wouter";
import { formatDate, formatNumber } from "../lib/format";
import { lineageQuery, modelsQuery, type Lineage } from "./api";
import { useModelName } from "./models";
import { useNames } from "./names";
import { KindBadge, Loaded, Pager, Section, Table, Warning } from "./parts";
import { ExportTable } from "./transfer";

const PAGE = 100; // as the server pages

/** Which labels shaped this model? */
export function LineagePage({ id }: { id: string }) {
  const { t } = useTranslation();
  const [page, setPage] = useState(0);
  const query = useQuery(lineageQuery(id, page * PAGE));
  return (
    <>
      <div><Link className="button plain" href="/lead/models"><ArrowLeft size={16} aria-hidden />{t("lead.tabs.models")}</Link></div>
      <Loaded query={query}>{(data) => <Details data={data} page={page} onPage={setPage} />}</Loaded>
    </>
  );
}

function Details({ data, page, onPage }: { data: Lineage; page: number; onPage: (page: number) => void }) {
  const { t, i18n } = useTranslation();
  const all = useQuery(modelsQuery).data;
  const nameOf = useModelName({ models: all?.models ?? [] });
  const personOf = useNames();
  const number = (value: number) => formatNumber(value, i18n.language);
  return (
    <>
      <Section title={t("lead.lineage.title", { model: data.model.name })}>
        <dl className="facts">
          <dt>{t("lead.lineage.labels")}</dt><dd><strong>{number(data.num_labels)}</strong></dd>
          <dt>{t("lead.lineage.base")}</dt><dd>{data.model.base}</dd>
          {data.ancestors.length ? <><dt>{t("lead.lineage.ancestors")}</dt><dd>{data.ancestors.map((each, at) => <span key={each}>{at ? " ← " : ""}<Link href={`/lead/models/${each}`}>{nameOf(each)}</Link></span>)}</dd></> : null}
          <dt>{t("lead.lineage.manifest")}</dt><dd className="mono">{data.model.manifest}</dd>
          <dt>{t("lead.lineage.folder")}</dt><dd className="mono">{data.model.path}</dd>
        </dl>
        {data.model.withdrawn ? <Warning>{t("lead.models.withdrawn", { count: data.model.withdrawn })}</Warning> : null}
      </Section>
      <Section title={t("lead.lineage.who")}>
        <Table label={t("lead.lineage.who")} head={<><th>{t("lead.people.labeller")}</th><th>{t("lead.dash.kind")}</th><th className="number">{t("lead.dash.labels")}</th></>}>
          {data.shares.map((share) => <tr key={`${share.labeller} ${share.kind}`}><td>{personOf(share.labeller)} <KindBadge kind={share.labeller_kind} /></td><td>{t(`lead.tasks.${share.kind}`)}</td><td className="number">{number(share.labels)}</td></tr>)}
        </Table>
      </Section>
      <Section title={t("lead.lineage.exports")}><ExportTable exports={data.exports} /></Section>
      <Section title={t("lead.lineage.each")}>
        <Table label={t("lead.lineage.each")} head={<><th>{t("lead.data.task")}</th><th>{t("lead.dash.kind")}</th><th>{t("lead.people.labeller")}</th><th>{t("audit.at")}</th></>}>
          {data.labels.map((label) => <tr key={label.uuid}><td><Link className="mono" href={`/lead/data/${label.task}`}>{label.task.slice(0, 18)}</Link></td><td>{t(`lead.tasks.${label.kind}`)}</td><td>{personOf(label.labeller)} <KindBadge kind={label.labeller_kind} /></td><td className="nowrap">{formatDate(label.at, i18n.language)}</td></tr>)}
        </Table>
        <Pager page={page} size={PAGE} total={data.num_labels} onPage={onPage} />
      </Section>
    </>
  );
}
