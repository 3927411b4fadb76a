import type { ReactNode } from "react";
import { useTranslation } from "react-i18next";
import type { Schemas } from "../api/client";
import { formatDate } from "../lib/format";

type Remaining = Schemas["Remaining"];

/** What a withdrawal could not erase, each with what can be done about it. */
export function Remains({ items, nameOf = (id) => id }: { items: Remaining[]; nameOf?: (account: string) => string }) {
  const { t, i18n } = useTranslation();
  if (!items.length) return <p className="small">{t("remains.nothing")}</p>;
  const line = (each: Remaining): ReactNode => {
    const date = each.at ? formatDate(each.at, i18n.language) : "";
    if (each.kind === "model") return t("remains.model", { name: each.name, version: each.version, date });
    if (each.kind === "copy") return each.by ? t("remains.copyBy", { name: each.name, file: each.version, by: nameOf(each.by), date }) : t("remains.copy", { name: each.name, date });
    if (each.kind === "backups") return t("remains.backups", { count: each.count }) + (each.name ? ` (${each.name})` : "");
    return t(`remains.${each.kind}`, { count: each.count });
  };
  return (
    <div className="stack small">
      <p>{t("remains.text")}</p>
      <ul>{items.map((each, index) => <li key={index}>{line(each)}</li>)}</ul>
    </div>
  );
}
