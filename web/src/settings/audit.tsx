import { useInfiniteQuery } from "@tanstack/react-query";
import type { TFunction } from "i18next";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { formatDate } from "../lib/format";
import { fieldName, slug } from "../lib/said";

const PAGE = 100;

/** What belongs to an entry, as `name: value`. */
function detail(values: Record<string, unknown>, t: TFunction): string {
  return Object.entries(values).map(([name, value]) => `${fieldName(name, t)}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`).join(" · ");
}

export default function Audit() {
  const { t, i18n } = useTranslation();
  const log = useInfiniteQuery({
    queryKey: ["audit"],
    initialPageParam: null as number | null,
    queryFn: ({ pageParam }) => ok(client.GET("/api/audit", { params: { query: { before: pageParam, limit: PAGE } } })),
    getNextPageParam: (last) => (last.length === PAGE ? last.at(-1)?.id : undefined),
  });
  const rows = log.data?.pages.flat() ?? [];
  return (
    <div className="stack">
      <p className="soft">{t("audit.text")}</p>
      <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.audit")}>
        <table className="data">
          <thead><tr><th>{t("audit.at")}</th><th>{t("audit.actor")}</th><th>{t("audit.action")}</th><th>{t("audit.target")}</th><th>{t("audit.address")}</th></tr></thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.id}><td>{formatDate(row.at, i18n.language)}</td><td className="mono">{row.actor.slice(0, 14)}</td><td>{t(`audit.actions.${slug(row.action)}`, { defaultValue: row.action })}</td><td className="mono">{row.target.slice(0, 14)} {detail(row.detail, t)}</td><td className="mono">{row.address}</td></tr>
            ))}
          </tbody>
        </table>
      </div>
      {log.hasNextPage ? <button type="button" className="button" onClick={() => void log.fetchNextPage()}>{t("common.more")}</button> : null}
    </div>
  );
}
