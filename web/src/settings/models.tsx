import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { modelsQuery } from "../api/chat";
import { formatNumber } from "../lib/format";
import { Version } from "../ui/version";

export default function Models() {
  const { t, i18n } = useTranslation();
  const { data = [] } = useQuery(modelsQuery);
  return (
    <div className="stack">
      <p className="soft">{t("models.text")}</p>
      <div className="card table-scroll" tabIndex={0} role="group" aria-label={t("settings.models")}>
        <table className="data">
          <thead><tr><th>{t("usage.model")}</th><th>{t("version.title")}</th><th className="number">{t("models.contextLength")}</th><th>{t("models.state")}</th></tr></thead>
          <tbody>
            {data.map((model) => (
              <tr key={model.name}>
                <td>{model.name} {model.default ? <span className="badge accent">{t("models.default")}</span> : null}</td>
                <td><Version of={model.version ?? ""} /></td>
                <td className="number">{formatNumber(model.context_length, i18n.language)}</td>
                <td>{model.ready ? t("models.ready") : model.unreachable ? `${t("models.unreachable")} (${model.unreachable})` : t("models.loading")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
