import { queryOptions } from "@tanstack/react-query";
import client, { ok, type Schemas } from "./client";

export type Message = Schemas["Message"];
export type Conversation = Schemas["Conversation"];
export type ConversationHead = Schemas["ConversationHead"];
export type Settings = Schemas["Settings"];
export type Token = Schemas["Token"];
export type Step = Message["steps"][number];
export type ModelInfo = Schemas["ModelInfo"];
export type Reason = Schemas["NewFeedback"]["reasons"] extends (infer R)[] | undefined ? R : never;

export const defaultSettings: Settings = { temperature: 0.7, top_p: 0.95, top_k: 0, max_tokens: 1024, seed: null, script: "" };

export const modelsQuery = queryOptions({ queryKey: ["models"], queryFn: () => ok(client.GET("/api/models")), staleTime: 30_000 });

export const loadConversation = (id: string) => ok(client.GET("/api/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }));

export const loadTokens = (id: string) => ok(client.GET("/api/messages/{message_id}/tokens", { params: { path: { message_id: id } } }));

export const changeConversation = (id: string, body: Schemas["ConversationChange"]) =>
  ok(client.PATCH("/api/conversations/{conversation_id}", { params: { path: { conversation_id: id } }, body }));

export const deleteConversation = (id: string) => ok(client.DELETE("/api/conversations/{conversation_id}", { params: { path: { conversation_id: id } } }));
