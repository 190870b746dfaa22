// The theme of the Airflow page around this one, and keys to go from pair to pair.
(() => {
  const root = document.documentElement;
  const around = () => {
    try { return window.parent === window ? null : window.parent.document.documentElement; }
    catch { return null; }
  };
  const follow = (outside) => {
    const dark = outside.classList.contains("dark") || outside.dataset.theme === "dark";
    root.classList.toggle("dark", dark);
    root.classList.toggle("light", !dark);
  };
  const outside = around();
  if (outside) {
    follow(outside);
    new MutationObserver(() => follow(outside)).observe(outside, { attributes: true });
  }
  const links = { j: "next", n: "next", k: "prev", p: "prev", u: "up" };
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    document.querySelector(`a[rel="${links[event.key]}"]`)?.click();
  });
})();
