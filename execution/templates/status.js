
const written = Date.parse(document.getElementById("written").dateTime);
const until = document.getElementById("until");
const title = document.title;
function look() {
  const minutes = Math.max(Math.floor((Date.now() - written) / 60000), 0);
  const hours = Math.floor(minutes / 60);
  const age = hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
  document.getElementById("age").textContent = ` (${age} ago)`;
  const late = until !== null && Date.now() > Date.parse(until.dateTime);
  document.body.classList.toggle("stale", late);
  document.title = late ? `Out of date · ${title}` : title;
}
look();
setInterval(look, 1000);
