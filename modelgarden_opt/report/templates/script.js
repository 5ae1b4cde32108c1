'use strict';
(() => {
  const all = (selector, root = document) => [
    ...root.querySelectorAll(selector)];

  // Sorting: a heading becomes a button.
  const valueOf = (row, index) => {
    const cell = row.cells[index];
    return cell.dataset.v === undefined ?
        cell.textContent.trim() : Number(cell.dataset.v);
  };
  const compare = (a, b) => typeof a === 'number' && typeof b === 'number' ?
      a - b : String(a).localeCompare(String(b), undefined, {numeric: true});
  for (const table of all('table.sortable')) {
    const body = table.tBodies[0];
    all('thead th', table).forEach((heading, index) => {
      const button = document.createElement('button');
      button.type = 'button';
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener('click', () => {
        const was = heading.getAttribute('aria-sort');
        // Numbers begin with the largest, names with the first.
        const down = was ? was === 'ascending' :
            heading.classList.contains('n');
        for (const other of all('thead th', table)) {
          other.removeAttribute('aria-sort');
        }
        heading.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const rows = [...body.rows];
        rows.sort((a, b) => (down ? -1 : 1) * compare(
            valueOf(a, index), valueOf(b, index)));
        body.append(...rows);
      });
    });
  }

  // Filtering: by name and by technique, in the table and in all charts.
  for (const filter of all('.filter')) {
    const rows = [...filter.nextElementSibling.querySelector(
        'table').tBodies[0].rows];
    const text = filter.querySelector('input[type=search]');
    const boxes = all('input[type=checkbox]', filter);
    const count = filter.querySelector('.count');
    const apply = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      const shown = new Set(boxes.filter(b => b.checked).map(b => b.value));
      let number = 0;
      for (const row of rows) {
        const name = row.textContent.toLowerCase();
        const fits = words.every(word => name.includes(word)) && (
            !boxes.length || shown.has(row.dataset.family));
        row.hidden = !fits;
        number += fits;
        for (const point of all('.point')) {
          if (point.dataset.key === row.dataset.key) {
            point.classList.toggle('faint', !fits);
          }
        }
      }
      count.textContent = `${number} of ${rows.length} shown`;
    };
    filter.hidden = false;
    filter.addEventListener('input', apply);
    apply();
  }

  // A variant that is pointed at is marked wherever it is.
  const marked = document.createElement('div');
  marked.className = 'tip';
  marked.hidden = true;
  document.body.append(marked);
  const mark = (key, on) => {
    for (const other of all('.point, tbody tr')) {
      if (key && other.dataset.key === key) other.classList.toggle('hot', on);
    }
  };
  for (const row of all('tbody tr[data-key]')) {
    row.addEventListener('mouseenter', () => mark(row.dataset.key, true));
    row.addEventListener('mouseleave', () => mark(row.dataset.key, false));
  }
  for (const point of all('.point')) {
    const title = point.querySelector('title');
    const text = title.textContent;
    const show = () => {
      title.textContent = '';  // Or the browser shows it as well.
      marked.textContent = text;
      marked.hidden = false;
      const box = point.getBoundingClientRect();
      const width = marked.offsetWidth;
      const left = Math.min(Math.max(8, box.left + box.width / 2 - width / 2),
                            document.documentElement.clientWidth - width - 8);
      marked.style.left = `${left + window.scrollX}px`;
      const above = box.top - marked.offsetHeight - 8;
      marked.style.top =
          `${(above > 0 ? above : box.bottom + 8) + window.scrollY}px`;
      mark(point.dataset.key, true);
    };
    const hide = () => {
      title.textContent = text;
      marked.hidden = true;
      mark(point.dataset.key, false);
    };
    point.addEventListener('mouseenter', show);
    point.addEventListener('mouseleave', hide);
    point.addEventListener('focus', show);
    point.addEventListener('blur', hide);
  }

  // Commands can be copied.
  for (const block of all('pre.commands')) {
    if (!navigator.clipboard) break;
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.textContent = 'Copy';
    const text = block.textContent;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
    block.before(button);
  }

  // A link into something that is folded opens it.
  const open = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    for (let e = target; e; e = e.parentElement) {
      if (e.tagName === 'DETAILS') e.open = true;
    }
    if (target) target.scrollIntoView();
  };
  window.addEventListener('hashchange', open);
  open();
})();
