import { useQuery, useQueryClient } from "@tanstack/react-query";
import { UserX } from "lucide-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { Confirm } from "../ui/dialog";
import { TextField } from "../ui/fields";
import { Remains } from "../ui/remains";
import { warn } from "../ui/toast";
import { withdraw, type Withdrawal } from "./api";
import { Section, Select } from "./parts";

/** For somebody who asks an administrator: what was collected of them is erased. */
export function Withdraw() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const { data: users = [] } = useQuery({ queryKey: ["users"], queryFn: () => ok(client.GET("/api/users")) });
  const [user, setUser] = useState("");
  const [imported, setImported] = useState("");
  const [asking, setAsking] = useState(false);
  const [done, setDone] = useState<Withdrawal | null>(null);
  const nameOf = (id: string) => users.find((each) => each.id === id)?.name ?? id;
  const name = imported.trim() || (user ? nameOf(user) : "");
  async function go() {
    try {
      setDone(await withdraw({ user: imported.trim() ? "" : user, key: "", imported_user: imported.trim() }));
      await queries.invalidateQueries({ queryKey: ["lead"] });
    } catch (failure) {
      warn(messageOf(failure, t));
    }
  }
  return (
    <Section title={t("lead.withdraw.title")} text={t("lead.withdraw.text")}>
      <div className="filters two">
        <Select label={t("lead.withdraw.whose")} value={user} options={[["", "–"], ...users.map((each) => [each.id, each.name] as const)]} onChange={(value) => { setUser(value); setImported(""); setDone(null); }} />
        <TextField label={t("lead.withdraw.imported")} hint={t("lead.withdraw.importedHint")} value={imported} maxLength={1024} onChange={(event) => { setImported(event.target.value); setUser(""); setDone(null); }} />
        <div><button type="button" className="button danger" disabled={!name} onClick={() => setAsking(true)}><UserX size={16} aria-hidden />{t("lead.withdraw.erase")}</button></div>
      </div>
      {done ? <div role="status" className="stack"><p>{t("lead.withdraw.done", { count: done.erased, name })}{done.wiped ? "" : ` ${t("lead.withdraw.later")}`}</p>{done.exports ? <p>{t("lead.withdraw.marked", { count: done.exports })}</p> : null}<Remains items={done.remains} nameOf={nameOf} /></div> : null}
      {asking ? <Confirm title={t("lead.withdraw.confirm", { name })} text={t("lead.withdraw.text")} action={t("lead.withdraw.erase")} onConfirm={() => void go()} onClose={() => setAsking(false)} /> : null}
    </Section>
  );
}
