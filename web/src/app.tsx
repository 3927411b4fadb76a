import { lazy, Suspense, type ComponentType } from "react";
import { useTranslation } from "react-i18next";
import { Redirect, Route, Switch, useLocation } from "wouter";
import { SessionProvider, useSession } from "./api/session";
import { Boundary } from "./ui/boundary";
import { Spinner } from "./ui/fields";
import { Frame } from "./ui/frame";
import { Toasts } from "./ui/toast";

const Login = lazy(() => import("./auth/login"));
const Join = lazy(() => import("./auth/join"));
const Chat = lazy(() => import("./chat/page"));
const Arena = lazy(() => import("./arena/page"));
const Board = lazy(() => import("./arena/board"));
const Prompts = lazy(() => import("./prompts/page"));
const Shared = lazy(() => import("./share/page"));
const Label = lazy(() => import("./label/page"));
const Settings = lazy(() => import("./settings/page"));
const Lead = lazy(() => import("./lead/page"));

function SignedIn({ page: Page }: { page: ComponentType }) {
  const { t } = useTranslation();
  const [location] = useLocation();
  if (!useSession().signed_in) return <Redirect to={`/login${location === "/" ? "" : `?next=${encodeURIComponent(location)}`}`} replace />;
  return (
    <Frame>
      <Boundary key={location.split("/")[1]}>
        <Suspense fallback={<Spinner label={t("common.loading")} />}><Page /></Suspense>
      </Boundary>
    </Frame>
  );
}

function Missing() {
  const { t } = useTranslation();
  return (
    <main className="center">
      <div className="empty">
        <h1>{t("missing.title")}</h1>
        <p>{t("missing.text")}</p>
        <a className="button" href="/">{t("missing.home")}</a>
      </div>
    </main>
  );
}

export function App() {
  const { t } = useTranslation();
  const waiting = <Spinner label={t("common.loading")} />;
  return (
    <SessionProvider
      waiting={waiting}
      failed={(retry) => (
        <main className="center">
          <div className="empty">
            <h1>{t("offline.title")}</h1>
            <p>{t("offline.text")}</p>
            <button type="button" className="button" onClick={retry}>{t("common.retry")}</button>
          </div>
        </main>
      )}
    >
      <Boundary>
        <Suspense fallback={waiting}>
          <Switch>
            <Route path="/login"><Login /></Route>
            <Route path="/join"><Join /></Route>
            <Route path="/share/:token"><Shared /></Route>
            <Route path="/arena/board"><SignedIn page={Board} /></Route>
            <Route path="/arena"><SignedIn page={Arena} /></Route>
            <Route path="/prompts"><SignedIn page={Prompts} /></Route>
            <Route path="/label/:view?"><SignedIn page={Label} /></Route>
            <Route path="/settings/:tab?"><SignedIn page={Settings} /></Route>
            <Route path="/lead/:tab?/:id?"><SignedIn page={Lead} /></Route>
            <Route path="/c/:id"><SignedIn page={Chat} /></Route>
            <Route path="/"><SignedIn page={Chat} /></Route>
            <Route><Missing /></Route>
          </Switch>
        </Suspense>
      </Boundary>
      <Toasts />
    </SessionProvider>
  );
}
