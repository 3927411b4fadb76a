import { Component, type ReactNode } from "react";
import i18n from "../i18n";

/** Shows what went wrong in one part of the page, and lets the rest work on. */
export class Boundary extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return (
      <div className="empty" role="alert">
        <h2>{i18n.t("crash.title")}</h2>
        <p>{i18n.t("crash.text")}</p>
        <button type="button" className="button" onClick={() => location.reload()}>{i18n.t("crash.reload")}</button>
      </div>
    );
  }
}
