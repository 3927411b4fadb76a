import { useInfiniteQuery, useQueryClient } from "@tanstack/react-query";
import { Pencil, Search, Trash2 } from "lucide-react";
import { useDeferredValue, useState } from "react";
import { useTranslation } from "react-i18next";
import { Link, useLocation } from "wouter";
import { changeConversation, deleteConversation, type ConversationHead } from "../api/chat";
import client, { ok } from "../api/client";
import { messageOf } from "../api/message";
import { ageOf, type Age } from "../lib/format";
import { Confirm, Dialog } from "../ui/dialog";
import { TextField } from "../ui/fields";
import { Menu } from "../ui/menu";
import { warn } from "../ui/toast";

/** One's conversations by age, or those that hold the words looked for. */
export function ConversationList() {
  const { t } = useTranslation();
  const [location, navigate] = useLocation();
  const queries = useQueryClient();
  const [search, setSearch] = useState("");
  const q = useDeferredValue(search.trim());
  const [renaming, setRenaming] = useState<ConversationHead | null>(null);
  const [deleting, setDeleting] = useState<ConversationHead | null>(null);
  const list = useInfiniteQuery({
    queryKey: ["conversations", q],
    initialPageParam: null as number | null,
    queryFn: ({ pageParam }) => ok(client.GET("/api/conversations", { params: { query: { q, before: pageParam } } })),
    getNextPageParam: (last) => (last.more ? last.conversations.at(-1)?.updated_at : undefined),
    placeholderData: (before) => before,
  });
  const rows = list.data?.pages.flatMap((page) => page.conversations) ?? [];
  const groups = q ? [["found", rows] as const] : (["today", "yesterday", "week", "older"] as Age[]).map((age) => [age, rows.filter((row) => ageOf(row.updated_at) === age)] as const);
  const headings = { found: t("side.found"), today: t("side.today"), yesterday: t("side.yesterday"), week: t("side.week"), older: t("side.older") };

  async function remove(row: ConversationHead) {
    try {
      await deleteConversation(row.id);
    } catch (failure) {
      return warn(messageOf(failure, t));
    }
    queries.removeQueries({ queryKey: ["conversation", row.id] });
    void queries.invalidateQueries({ queryKey: ["conversations"] });
    if (location === `/c/${row.id}`) navigate("/");
  }

  return (
    <>
      <div className="side-tools">
        <div className="search">
          <Search size={16} aria-hidden />
          <input id="search" dir="auto" className="input" type="search" aria-label={t("side.search")} placeholder={t("side.search")} value={search} onChange={(event) => setSearch(event.target.value)} />
        </div>
      </div>
      <div className="side-list">
        {groups.map(([group, members]) => members.length ? (
          <section key={group} aria-label={headings[group]}>
            <h2>{headings[group]}</h2>
            <ul>
              {members.map((row) => {
                const href = `/c/${row.id}`;
                return (
                  <li key={row.id} className={location === href ? "side-item active" : "side-item"}>
                    <Link href={href} aria-current={location === href ? "page" : undefined}>
                      <span className="ellipsis title" dir="auto">{row.title || t("side.untitled")}</span>
                      {row.excerpt ? <span className="snippet" dir="auto"><Marked text={row.excerpt} word={q} /></span> : null}
                    </Link>
                    <Menu label={t("side.more", { title: row.title || t("side.untitled") })} items={[
                      { label: t("common.rename"), icon: <Pencil size={15} aria-hidden />, onSelect: () => setRenaming(row) },
                      { label: t("common.delete"), icon: <Trash2 size={15} aria-hidden />, danger: true, onSelect: () => setDeleting(row) },
                    ]} />
                  </li>
                );
              })}
            </ul>
          </section>
        ) : null)}
        {list.isSuccess && !rows.length ? <p className="empty small">{q ? t("side.nothingFound") : t("side.nothingYet")}</p> : null}
        {list.hasNextPage ? <button type="button" className="button plain wide" onClick={() => void list.fetchNextPage()}>{t("common.more")}</button> : null}
      </div>
      {renaming ? <Rename row={renaming} onClose={() => setRenaming(null)} /> : null}
      {deleting ? <Confirm title={t("side.deleteTitle")} text={t("side.deleteText", { title: deleting.title })} action={t("common.delete")} onConfirm={() => void remove(deleting)} onClose={() => setDeleting(null)} /> : null}
    </>
  );
}

/** A text with the words that were looked for marked. */
function Marked({ text, word }: { text: string; word: string }) {
  const at = word ? text.toLocaleLowerCase().indexOf(word.toLocaleLowerCase()) : -1;
  if (at < 0) return <>{text}</>;
  return <>{text.slice(0, at)}<mark>{text.slice(at, at + word.length)}</mark>{text.slice(at + word.length)}</>;
}

function Rename({ row, onClose }: { row: ConversationHead; onClose: () => void }) {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [title, setTitle] = useState(row.title);
  async function save() {
    try {
      await changeConversation(row.id, { title: title.trim() });
    } catch (failure) {
      return warn(messageOf(failure, t));
    }
    void queries.invalidateQueries({ queryKey: ["conversations"] });
    void queries.invalidateQueries({ queryKey: ["conversation", row.id] });
    onClose();
  }
  return (
    <Dialog title={t("common.rename")} onClose={onClose}>
      <form className="stack" onSubmit={(event) => { event.preventDefault(); void save(); }}>
        <TextField label={t("side.title")} required maxLength={200} value={title} onChange={(event) => setTitle(event.target.value)} />
        <div className="row end"><button className="button primary" disabled={!title.trim()}>{t("common.save")}</button></div>
      </form>
    </Dialog>
  );
}
