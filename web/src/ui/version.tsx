import { useTranslation } from "react-i18next";

/** The version of a model: the beginning of its content hash, the whole of it as a hint. Rows from before versions were kept have none. */
export function Version({ of }: { of: string }) {
  const { t } = useTranslation();
  if (!of) return <span className="soft small nowrap">{t("version.unknown")}</span>;
  return <span className="soft small mono nowrap" title={t("version.full", { version: of })}>{of.slice(0, 12)}</span>;
}
