import type { QueryClient, QueryKey } from "@tanstack/react-query";

/** What the server answers to a change is shown; answers that were asked for before it, and come later, are not. */
export async function showAnswer<T>(queries: QueryClient, queryKey: QueryKey, change: Promise<T>): Promise<void> {
  const answer = await change;
  await queries.cancelQueries({ queryKey, exact: true });
  queries.setQueryData(queryKey, answer);
}
