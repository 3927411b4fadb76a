import { useTranslation } from "react-i18next";

/** Observations from which an interval is worth its name. Fewer say more of chance than of what was measured. */
export const ENOUGH = 10;

/** Whether `count` observations carry an interval; one without width comes from observations that all said the same. */
export function isEnough(count: number, low: number | null, high: number | null): boolean {
  return count >= ENOUGH && low !== null && high !== null && high > low;
}

/** Stands where an interval would, while there are too few observations. */
export function Few({ count, unit }: { count: number; unit: "votes" | "labels" | "tasks" | "comparisons" }) {
  const { t } = useTranslation();
  return <span className="soft small">{count >= ENOUGH ? t("few.oneSided") : t(`few.${unit}`, { count })}</span>;
}
