// Runs inside a copy of a report: uses its controls and tells the parent page what it saw.
(function () {
  var root = document.documentElement, pic = document.querySelector('.pic'), out = {};
  function every(selector) { return [].slice.call(document.querySelectorAll(selector)); }
  function style(element) { return getComputedStyle(element); }
  function shown(selector) { return +style(pic.querySelector(selector)).opacity; }
  function press(selector) { document.querySelector(selector).click(); }
  function base() { return style(pic.querySelector('.base')).filter; }
  function colour(name) { return style(document.body).getPropertyValue(name).trim(); }

  out.width = [root.scrollWidth, root.clientWidth];
  out.wide = every('main *').filter(function (e) {
    return !e.closest('pre') && e.getBoundingClientRect().right > root.clientWidth + 1;
  }).map(function (e) { return e.tagName + '.' + e.className; }).slice(0, 5);
  out.low = every('.seg label, summary, nav a, input[type=range]').filter(function (e) {
    var height = e.getBoundingClientRect().height;
    return height > 0 && height < 36;
  }).length;
  out.small = every('main *').filter(function (e) {
    return !e.closest('svg') && e.textContent.trim() && parseFloat(style(e).fontSize) < 12;
  }).length;

  var slider = document.querySelector('input[type=range]');
  out.before = shown('.o0');
  slider.value = 30;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
  out.after = shown('.o0');
  press('.r1');
  out.second = [shown('.o0'), shown('.o1'), shown('.o3')];
  press('.r2');
  out.plain = [shown('.o0'), shown('.o1'), shown('.o3')];
  out.held = [slider.disabled, base()];
  press('.r3');
  out.absent = [shown('.o0'), shown('.o3')];
  press('.r0');
  out.grey = base();
  out.maps = every('.map').map(function (m) { return style(m).display !== 'none'; });
  out.colours = ['--paper', '--ink', '--for', '--against'].map(colour);
  out.painted = style(document.body).backgroundColor;

  parent.got[innerWidth] = out;
  parent.document.getElementById('out').textContent = JSON.stringify(parent.got);
})();
