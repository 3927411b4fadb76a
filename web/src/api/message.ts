import type { TFunction } from "i18next";
import { ApiError } from "./client";

/** What a person is told about a failure. */
export function messageOf(failure: unknown, t: TFunction): string {
  if (!(failure instanceof ApiError)) return t("errors.network");
  if (failure.status === 429) return t("errors.tooMany", { seconds: failure.retryAfter || 60 });
  const known: Record<string, string> = {
    wrong_password: "errors.wrongPassword", name_taken: "errors.nameTaken", link_invalid: "errors.linkInvalid", last_admin: "errors.lastAdmin",
    not_found: "errors.notFound", engine_busy: "errors.busy",
  };
  const key = known[failure.code];
  return key ? t(key) : failure.message;
}
