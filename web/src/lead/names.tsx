import { useQuery } from "@tanstack/react-query";
import { peopleQuery } from "./api";

/** What an id is called: the account's name; labellers that are no accounts have a name for an id. `allowed`: leads and administrators. */
export function useNames(allowed = true): (id: string) => string {
  const { data = [] } = useQuery({ ...peopleQuery, enabled: allowed });
  const names = new Map(data.map((person) => [person.id, person.name]));
  return (id) => names.get(id) ?? (id.length > 30 ? `${id.slice(0, 28)}…` : id);
}
