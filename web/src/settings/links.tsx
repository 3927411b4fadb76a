import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import client, { ok, type Schemas } from "../api/client";
import { messageOf } from "../api/message";
import { useNames } from "../lead/names";
import { formatDate } from "../lib/format";
import { toast, warn } from "../ui/toast";

type Link = Schemas["LinkRow"];
export const LINKS = ["links"];

/** Invitations and links for a new password that were not used yet. */
export function Links() {
  const { t, i18n } = useTranslation();
  const queries = useQueryClient();
  const nameOf = useNames();
  const { data = [] } = useQuery({ queryKey: LINKS, queryFn: () => ok(client.GET("/api/links")) });

  async function revoke(link: Link) {
    try {
      await ok(client.DELETE("/api/links/{link_id}", { params: { path: { link_id: link.id } } }));
      toast(t("users.linkRevoked"));
    } catch (failure) {
      warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: LINKS });
  }

  return (
    <section className="stack" aria-labelledby="open-links">
      <h2 id="open-links">{t("users.links")}</h2>
      {data.length ? (
        <div className="card table-scroll" tabIndex={0} role="group" aria-labelledby="open-links">
          <table className="data">
            <thead><tr><th>{t("users.links")}</th><th>{t("users.linkFor")}</th><th>{t("users.linkBy")}</th><th>{t("users.linkUntil")}</th><th><span className="sr-only">{t("apiKeys.action")}</span></th></tr></thead>
            <tbody>
              {data.map((link) => (
                <tr key={link.id}>
                  <td>{t(`users.linkKinds.${link.kind}`)}</td>
                  <td>{link.kind === "reset" ? link.name : t(`roles.${link.role}`)}</td>
                  <td>{nameOf(link.created_by)}</td>
                  <td>{formatDate(link.expires_at, i18n.language)}</td>
                  <td><button type="button" className="button plain" onClick={() => void revoke(link)}>{t("users.linkRevoke")}</button></td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : <p className="soft">{t("users.linksNone")}</p>}
    </section>
  );
}
