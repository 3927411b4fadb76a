import i18n from "i18next";
import { initReactI18next } from "react-i18next";
import en from "./en.json";
import zh from "./zh-CN.json";

export const languages = { en: "English", "zh-CN": "简体中文" } as const;
export type Language = keyof typeof languages;

function preferred(): Language {
  let stored: string | null = null;
  try {
    stored = localStorage.getItem("language");
  } catch {
    // Storage may be switched off: the browser's language counts.
  }
  const wanted = stored ?? navigator.language;
  return wanted.toLowerCase().startsWith("zh") ? "zh-CN" : "en";
}

function show(language: string): void {
  document.documentElement.lang = language;
}

export function setLanguage(language: Language): void {
  try {
    localStorage.setItem("language", language);
  } catch {
    // The choice lasts as long as the page.
  }
  void i18n.changeLanguage(language);
}

i18n.on("languageChanged", show);
void i18n.use(initReactI18next).init({
  resources: { en: { translation: en }, "zh-CN": { translation: zh } },
  lng: preferred(),
  fallbackLng: "en",
  interpolation: { escapeValue: false }, // React escapes
});

export default i18n;
