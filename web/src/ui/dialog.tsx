import { X } from "lucide-react";
import { useId, useLayoutEffect, useRef, type ReactNode } from "react";
import { useTranslation } from "react-i18next";

/** A modal dialog: the browser's own, which traps focus, closes on Escape and gives focus back. */
export function Dialog(props: { title: string; onClose: () => void; wide?: boolean; children: ReactNode }) {
  const { t } = useTranslation();
  const ref = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  // Before the element leaves the page: afterwards the browser gives the focus back to nothing.
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (!dialog || dialog.open) return;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      const found = before instanceof HTMLElement && before.isConnected && before !== document.body ? before : document.getElementById("main");
      found?.focus({ preventScroll: true });
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={props.wide ? "dialog wide" : "dialog"}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        props.onClose();
      }}
      onMouseDown={(event) => event.target === ref.current && props.onClose()}
    >
      <div className="dialog-head">
        <h2 id={titleId} className="grow">{props.title}</h2>
        <button type="button" className="icon-button" aria-label={t("common.close")} onClick={props.onClose}><X size={18} aria-hidden /></button>
      </div>
      <div className="dialog-body">{props.children}</div>
    </dialog>
  );
}

/** Asks before something that cannot be undone. */
export function Confirm(props: { title: string; text: string; action: string; onConfirm: () => void; onClose: () => void }) {
  const { t } = useTranslation();
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p className="soft">{props.text}</p>
      <div className="row end">
        <button type="button" className="button plain" onClick={props.onClose}>{t("common.cancel")}</button>
        <button type="button" className="button danger" onClick={() => { props.onConfirm(); props.onClose(); }}>{props.action}</button>
      </div>
    </Dialog>
  );
}
