import type { TFunction } from "i18next";
import { fieldName, readsEnglish } from "../lib/said";
import { ApiError } from "./client";

/** The server's codes whose meaning is told in words of the app. */
const KNOWN: Record<string, string> = {
  wrong_password: "errors.wrongPassword", wrong_old_password: "account.wrong", name_taken: "errors.nameTaken", name_invalid: "errors.nameInvalid", link_invalid: "errors.linkInvalid",
  last_admin: "errors.lastAdmin", not_found: "errors.notFound", unknown_url: "errors.notFound", csrf: "errors.stale", not_signed_in: "errors.signedOut",
  insufficient_role: "errors.notAllowed", insufficient_scope: "errors.notAllowed", too_many_keys: "errors.tooManyKeys", body_too_large: "errors.tooLarge",
  engine_unavailable: "errors.modelGone", model_not_found: "errors.modelGone", model_not_served: "errors.modelGone", not_ready: "errors.busy",
  context_length_exceeded: "errors.tooLong", content_filter: "errors.inputFiltered", provider_failed: "login.failed",
  gate: "lead.models.gate", model_unusable: "lead.models.unusable", nothing_before: "lead.models.nothingBefore", judge_unknown: "lead.run.unknownJudge",
  label_exists: "label.refused.exists", prompt_withdrawn: "label.refused.withdrawn", label_merged: "label.refused.merged", place_expired: "label.leaseLost",
  draft_conflict: "label.conflict.text", task_closed: "lead.data.taskClosed", project_exists: "lead.projects.exists",
};

/** What a person is told about a failure. */
export function messageOf(failure: unknown, t: TFunction): string {
  if (!(failure instanceof ApiError)) return t("errors.network");
  if (failure.status === 429) return t("errors.tooMany", { seconds: failure.retryAfter || 60 });
  const key = KNOWN[failure.code];
  if (key) return t(key);
  return readsEnglish() ? inPlainWords(failure, t) : inOtherWords(failure, t);
}

/** `settings.script: Value error, script 'x': is none of …` without the words of the server's own machinery. */
function inPlainWords({ param, message }: ApiError, t: TFunction): string {
  const said = message.replace(/\b(?:Value|Assertion) error, /g, "");
  const rest = param && said.startsWith(`${param}: `) ? said.slice(param.length + 2) : "";
  if (/^Field required$/i.test(rest)) return t("errors.missing", { field: fieldName(param.split(".").at(-1) ?? param, t) });
  return rest ? `${fieldName(param.split(".").at(-1) ?? param, t)}: ${rest}` : said;
}

/** For readers of other languages: what kind of failure it was, and where. The server's own words stand only where nothing else tells what to do. */
function inOtherWords({ status, param, message }: ApiError, t: TFunction): string {
  if (status >= 500) return t("errors.server");
  if (status === 404) return t("errors.notFound");
  if (status === 401 || status === 403) return t("errors.notAllowed");
  return param ? t("errors.field", { field: fieldName(param, t) }) : t("errors.refused", { words: message });
}
