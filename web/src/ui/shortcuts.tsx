import { useTranslation } from "react-i18next";
import { Dialog } from "./dialog";

const mod = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘" : "Ctrl";

export function Shortcuts({ onClose }: { onClose: () => void }) {
  const { t } = useTranslation();
  const rows: [string[], string][] = [
    [["Enter"], t("keys.send")], [["Shift", "Enter"], t("keys.newline")], [["Esc"], t("keys.stop")], [["/"], t("keys.focus")],
    [[mod, "Shift", "O"], t("side.new")], [[mod, "K"], t("keys.search")], [[mod, "B"], t("keys.side")], [["?"], t("keys.title")],
  ];
  return (
    <Dialog title={t("keys.title")} onClose={onClose}>
      <dl className="keys">
        {rows.map(([keys, text]) => (
          <div key={text} className="key-row"><dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt><dd>{text}</dd></div>
        ))}
      </dl>
    </Dialog>
  );
}
