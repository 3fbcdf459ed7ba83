for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'descending' ? 1 : -1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const key = row => Array.from(row.cells[column].childNodes).map(
        node => node.className === 'range' ? '' : node.textContent).join('').trim();
      const number = row => Number(key(row).replace(/[,$%×+]/g, '').replace('—', 'NaN'));
      const rows = Array.from(body.rows);
      const words = rows.some(row => key(row) !== '—' && Number.isNaN(number(row)));
      rows.sort((a, b) => {
        if (words) return sign * key(a).localeCompare(key(b), undefined, {numeric: true});
        const x = number(a), y = number(b);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      });
      body.append(...rows);
    });
  });
}
