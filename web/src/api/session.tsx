import { useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, type ReactNode } from "react";
import { forgetThreads } from "../chat/threads";
import client, { ok, setCsrf, whenSignedOut, type Schemas } from "./client";

export type Session = Schemas["SessionInfo"];

const Context = createContext<Session | null>(null);
const Away = createContext(false);

/** Whether the app runs on what it knows from the last visit, because the server has not answered yet. */
export const useAway = () => useContext(Away);

/** Who was signed in last, for a reload without a network; the token that proves it is not kept. */
const KEPT = "session.kept";

function keep(session: Session): void {
  try {
    if (session.signed_in) localStorage.setItem(KEPT, JSON.stringify({ ...session, csrf: "" }));
    else localStorage.removeItem(KEPT);
  } catch {
    // Without storage a reload needs the server.
  }
}

function kept(): Session | null {
  try {
    return JSON.parse(localStorage.getItem(KEPT) ?? "null") as Session | null;
  } catch {
    return null;
  }
}

export function useSession(): Session {
  const session = useContext(Context);
  if (!session) throw new Error("useSession: outside of SessionProvider");
  return session;
}

/** Nothing of one person stays for the next. */
function forget(queries: QueryClient): void {
  forgetThreads();
  queries.removeQueries({ predicate: (query) => query.queryKey[0] !== "session" });
}

/** Take over what the server says about who is signed in. */
export function useSetSession(): (session: Session) => void {
  const queries = useQueryClient();
  return (session) => {
    setCsrf(session.csrf ?? "");
    keep(session);
    if (!session.signed_in) forget(queries);
    queries.setQueryData(["session"], session);
  };
}

const AGAIN_MS = 5000;

export function SessionProvider(props: { children: ReactNode; waiting: ReactNode; failed: (retry: () => void) => ReactNode }) {
  const queries = useQueryClient();
  const { data, isError, failureCount, fetchStatus, refetch } = useQuery({
    queryKey: ["session"],
    queryFn: async () => {
      const session = await ok(client.GET("/api/session"));
      setCsrf(session.csrf ?? "");
      keep(session);
      return session;
    },
    staleTime: Infinity,
    refetchInterval: ({ state }) => (state.data ? false : AGAIN_MS),
  });
  useEffect(() => whenSignedOut(() => void queries.invalidateQueries({ queryKey: ["session"] })), [queries]);
  const signedIn = data?.signed_in;
  useEffect(() => { if (signedIn === false) forget(queries); }, [queries, signedIn]); // also when the server ended the session
  const unreachable = !data && (failureCount > 0 || fetchStatus === "paused"); // paused: the browser knows that it is offline
  const before = unreachable ? kept() : null;
  if (before) return <Context value={before}><Away value={true}>{props.children}</Away></Context>;
  if (isError && !data) return props.failed(() => void refetch());
  return data ? <Context value={data}>{props.children}</Context> : props.waiting;
}
