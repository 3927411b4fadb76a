// Before the first paint, so that nobody is flashed with the wrong colours. A file of its own: the page's policy allows no inline script.
(function () {
  try {
    var theme = localStorage.getItem("theme");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
  } catch (error) {
    void error; // storage may be switched off: the system's colours stay
  }
})();
