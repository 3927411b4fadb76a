import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { formatDate } from "../lib/format";
import { modelsQuery, projectsQuery } from "../lead/api";
import { useNames } from "../lead/names";
import { fieldName, slug } from "../lib/said";

const PAGE = 100;

const plain = (value: unknown): string => (Array.isArray(value) ? value.map(plain).join(", ") : typeof value === "object" && value ? Object.entries(value).map(([name, each]) => `${name} ${plain(each)}`).join(", ") : String(value));

/** What belongs to an entry, as `name: value`. */
function detail(values: Record<string, unknown>, t: TFunction): string {
  return Object.entries(values).map(([name, value]) => `${fieldName(name, t)}: ${plain(value)}`).join(" · ");
}

/** Names of accounts, keys, models and projects by their identifiers. */
function useTargets(): (id: string) => string {
  const personOf = useNames();
  const { data: keys = [] } = useQuery({ queryKey: ["keys", true], queryFn: () => ok(client.GET("/api/keys", { params: { query: { everyone: true } } })) });
  const { data: models } = useQuery(modelsQuery);
  const { data: projects = [] } = useQuery(projectsQuery);
  const names = new Map([...keys, ...(models?.models ?? []), ...projects].map((each) => [each.id, each.name]));
  return (id) => names.get(id) ?? personOf(id);
}

export default function Audit() {
  const { t, i18n } = useTranslation();
  const log = useInfiniteQuery({
    queryKey: ["audit"],
    initialPageParam: null as number | null,
    queryFn: ({ pageParam }) => ok(client.GET("/api/audit", { params: { query: { before: pageParam, limit: PAGE } } })),
    getNextPageParam: (last) => (last.length === PAGE ? last.at(-1)?.id : undefined),
  });
  const nameOf = useTargets();
  // By its name where it has one; else by the beginning of the identifier, whole in the tooltip.
  const named = (id: string) => (nameOf(id) !== id && !nameOf(id).endsWith("…") ? nameOf(id) : <span className="mono" title={id}>{id.length > 18 ? `${id.slice(0, 16)}…` : id}</span>);
  const rows = log.data?.pages.flat() ?? [];
  return (
    <div className="stack">
      <div className="row wrap">
        <p className="soft grow">{t("audit.text")}</p>
        <a className="button" href="/api/audit/export?format=csv" download>{t("audit.exportCsv")}</a>
        <a className="button" href="/api/audit/export?format=jsonl" download>{t("audit.exportJson")}</a>
      </div>
      <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.audit")}>
        <table className="data">
          <thead><tr><th>{t("audit.at")}</th><th>{t("audit.actor")}</th><th>{t("audit.action")}</th><th>{t("audit.target")}</th><th>{t("audit.address")}</th></tr></thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.id}><td>{formatDate(row.at, i18n.language)}</td><td className="nowrap">{nameOf(row.actor)}</td><td>{t(`audit.actions.${slug(row.action)}`, { defaultValue: row.action })}</td><td className="text">{named(row.target)} <span className="soft small">{detail(row.detail, t)}</span></td><td className="mono">{row.address}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
      {log.hasNextPage ? <button type="button" className="button" onClick={() => void log.fetchNextPage()}>{t("common.more")}</button> : null}
    </div>
  );
}
