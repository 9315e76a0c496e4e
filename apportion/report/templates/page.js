document.querySelectorAll('.where').forEach(function (where) {
  var slider = where.querySelector('input[type=range]'), pic = where.querySelector('.pic');
  if (!slider || !pic) return;
  function set() { pic.style.setProperty('--ov', slider.value / 100); }
  function hold() { slider.disabled = !where.querySelector('.over:checked'); }
  slider.addEventListener('input', set);
  where.querySelectorAll('.r').forEach(function (r) { r.addEventListener('change', hold); });
  set(); hold();
});
