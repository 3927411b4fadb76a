import { useQuery, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, type ReactNode } from "react";
import { forgetThreads } from "../chat/threads";
import client, { ok, setCsrf, whenSignedOut, type Schemas } from "./client";

export type Session = Schemas["SessionInfo"];

const Context = createContext<Session | null>(null);

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
    if (!session.signed_in) forget(queries);
    queries.setQueryData(["session"], session);
  };
}

export function SessionProvider(props: { children: ReactNode; waiting: ReactNode; failed: (retry: () => void) => ReactNode }) {
  const queries = useQueryClient();
  const { data, isError, refetch } = useQuery({
    queryKey: ["session"],
    queryFn: async () => {
      const session = await ok(client.GET("/api/session"));
      setCsrf(session.csrf ?? "");
      return session;
    },
    staleTime: Infinity,
  });
  useEffect(() => whenSignedOut(() => void queries.invalidateQueries({ queryKey: ["session"] })), [queries]);
  const signedIn = data?.signed_in;
  useEffect(() => { if (signedIn === false) forget(queries); }, [queries, signedIn]); // also when the server ended the session
  if (isError && !data) return props.failed(() => void refetch());
  return data ? <Context value={data}>{props.children}</Context> : props.waiting;
}
