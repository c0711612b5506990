import test from 'ava';
import fc from 'fast-check';
import { playGate, randomOf, type Behaviour } from './fake-series.ts';
import { BELIEVED } from './odds.ts';
import type { SampleFault } from './sample.ts';
import { BOOT } from './sample.ts';
import { PROBE } from './smoke.ts';

const good: Behaviour = () => 'pass';
const brokenFrom =
  (culprit: number, until = Infinity): Behaviour =>
  (stop) =>
    stop >= culprit && stop < until ? 'fail' : 'pass';
const splat: SampleFault = { kind: 'warning', title: 'WARNING at fs/fuse/x.c:1', fingerprint: 'warning x' };

test('plan: base and tip that agree, and the rest boots: four runs for three patches', (t) => {
  const { verdicts, steps } = playGate({ stops: 4, tests: { a: good, b: good } });
  t.deepEqual(
    steps.map(({ stop, wanted }) => [stop, wanted]),
    [
      [0, 'all'],
      [3, 'all'],
      [1, ['a', 'b']],
      [2, ['a', 'b']],
    ],
  );
  t.deepEqual([...verdicts.values()].map(({ kind }) => kind).toSorted(), ['passed', 'passed', 'passed']);
});

test('plan: any one culprit among up to twenty patches is found, and nothing else is blamed', (t) => {
  const series = fc
    .integer({ min: 1, max: 20 })
    .chain((patches) => fc.tuple(fc.constant(patches), fc.integer({ min: 1, max: patches })));
  fc.assert(
    fc.property(series, ([patches, culprit]) => {
      const { verdicts, steps } = playGate({
        stops: patches + 1,
        tests: { a: good, b: brokenFrom(culprit) },
      });
      const found = verdicts.get('b');
      t.is(found?.kind, 'regressed');
      t.deepEqual(found?.change, { from: culprit - 1, to: culprit });
      t.true(found?.confirmed === true && (found.odds ?? 1) < BELIEVED);
      t.is(verdicts.get('a')?.kind, 'passed');
      // Both ends, the rest at least once, both sides of the culprit again.
      t.true(steps.length <= patches + 1 + 2, `${steps.length} steps`);
    }),
  );
});

test('plan: only tests on which the kernels disagree are repeated', (t) => {
  const { steps } = playGate({ stops: 3, tests: { a: good, b: brokenFrom(2), c: good } });
  const repeated = steps.filter(({ times }) => times > 1);
  t.true(repeated.length > 0);
  t.true(repeated.every(({ wanted }) => wanted !== 'all' && wanted.join() === 'b'));
});

test('plan: a test that is flaky on every kernel is blamed on a patch in less than one gate of a hundred', (t) => {
  const gates = 3000;
  for (const rate of [0.05, 0.3, 0.5, 0.8]) {
    let blamed = 0;
    for (let seed = 0; seed < gates; seed += 1) {
      const random = randomOf(seed * 7919 + 1);
      const flaky: Behaviour = () => (random() < rate ? 'fail' : 'pass');
      const { verdicts } = playGate({ stops: 4, tests: { a: good, b: flaky } });
      const found = verdicts.get('b');
      if ((found?.kind === 'regressed' || found?.kind === 'fixed') && found.confirmed) blamed += 1;
    }
    t.true(blamed / gates < BELIEVED, `${blamed} of ${gates} with a failure rate of ${rate}`);
  }
});

test('plan: a failure every other time is the patch that brought it, or goes unseen, but is nobody else', (t) => {
  let found = 0;
  let seen = 0;
  let elsewhere = 0;
  for (let seed = 0; seed < 500; seed += 1) {
    const random = randomOf(seed * 104_729 + 3);
    const met: number[] = [];
    const half: Behaviour = (stop) => {
      if (stop < 2 || random() < 0.5) return 'pass';
      met.push(stop);
      return 'fail';
    };
    const verdict = playGate({ stops: 5, tests: { a: good, b: half } }).verdicts.get('b');
    if (met.length > 0) seen += 1;
    if (verdict?.kind === 'regressed' && verdict.change?.to === 2) found += 1;
    else if (verdict?.kind === 'regressed' && verdict.confirmed) elsewhere += 1;
  }
  t.true(found / seen > 0.85, `${found} of ${seen}`);
  t.true(elsewhere <= 5, `${elsewhere} wrong patches`);
});

test('plan: a lost machine is never a regression, however often it happens', (t) => {
  for (let seed = 0; seed < 500; seed += 1) {
    const random = randomOf(seed + 17);
    const shaky: Behaviour = () => (random() < 0.3 ? 'lost' : 'pass');
    const { verdicts, steps } = playGate({ stops: 4, tests: { [BOOT]: shaky, a: shaky, b: shaky } });
    for (const { kind } of verdicts.values()) {
      t.true(kind === 'passed' || kind === 'infra' || kind === 'not-run', kind);
    }
    t.true(steps.length < 40);
  }
});

test('plan: a test without any verdict because its machines were lost is said to be infrastructure', (t) => {
  const lostAtTip: Behaviour = (stop) => (stop === 2 ? 'lost' : 'pass');
  const { verdicts } = playGate({ stops: 3, tests: { a: good, b: lostAtTip } });
  t.is(verdicts.get('b')?.kind, 'infra');
  t.is(verdicts.get('a')?.kind, 'passed');
});

test('plan: what fails before and after is no news, and a known failure is called one', (t) => {
  const bad: Behaviour = () => 'fail';
  const { verdicts, steps } = playGate({ stops: 3, tests: { a: good, b: bad, c: bad }, known: ['c'] });
  t.is(verdicts.get('b')?.kind, 'pre-existing');
  t.is(verdicts.get('c')?.kind, 'known-failure');
  t.is(steps.length, 3);
});

test('plan: a series that mends what failed before has fixed it, by the right patch', (t) => {
  const mends: Behaviour = (stop) => (stop < 3 ? 'fail' : 'pass');
  const verdict = playGate({ stops: 6, tests: { a: good, b: mends } }).verdicts.get('b');
  t.is(verdict?.kind, 'fixed');
  t.deepEqual(verdict?.change, { from: 2, to: 3 });
});

test('plan: a middle that is broken between a clean base and a clean tip', (t) => {
  const series = { stops: 5, tests: { a: good, b: brokenFrom(2, 4) }, transient: [3] };
  const { verdicts, steps } = playGate(series);
  const verdict = verdicts.get('b');
  // Where everything runs no quick test does before.
  t.is(steps.find(({ stop }) => stop === 3)?.wanted, 'all');
  t.is(verdict?.kind, 'regressed');
  t.deepEqual(verdict?.change, { from: 1, to: 2 });
  t.is(verdict?.mendedAt, 4);
});

test('plan: a kernel that does not boot is found like a test, and what comes before it is tested', (t) => {
  const { verdicts } = playGate({ stops: 5, tests: { [BOOT]: brokenFrom(3), a: good, b: brokenFrom(2) } });
  t.like(verdicts.get(BOOT), { kind: 'regressed', change: { from: 2, to: 3 }, confirmed: true });
  t.like(verdicts.get('b'), { kind: 'regressed', change: { from: 1, to: 2 }, confirmed: true });
  t.is(verdicts.get('a')?.kind, 'passed');
});

test('plan: a base that does not boot ends it', (t) => {
  const { steps, verdicts } = playGate({ stops: 4, tests: { [BOOT]: () => 'fail', a: good } });
  t.is(steps.length, 1);
  t.is(verdicts.get(BOOT)?.kind === 'regressed', false);
});

test('plan: a complaint of the kernel during a test that fails anyway is a verdict of its own', (t) => {
  const oopsesToo: Behaviour = (stop) => (stop >= 2 ? splat : 'fail');
  const { verdicts } = playGate({ stops: 4, tests: { a: good, b: oopsesToo } });
  t.is(verdicts.get('b')?.kind, 'pre-existing');
  t.like(verdicts.get('b [warning x]'), { kind: 'regressed', change: { from: 1, to: 2 }, confirmed: true });
});

test('plan: a complaint that the base has in the same test is no news', (t) => {
  const { verdicts } = playGate({ stops: 3, tests: { a: good, b: () => splat } });
  t.deepEqual(
    [...verdicts.values()].filter(({ kind }) => kind === 'regressed'),
    [],
  );
});

test('plan: a series that brings the feature is judged from where it is there', (t) => {
  // Stops 0 to 2 have no passthrough: everything that needs it fails for want of it.
  const needs =
    (then: Behaviour): Behaviour =>
    (stop) =>
      stop < 3 ? 'fail' : then(stop);
  const { verdicts } = playGate({
    stops: 6,
    tests: { [PROBE]: needs(good), right: needs(good), wrong: needs(() => 'fail'), plain: good },
  });
  t.is(verdicts.get('right')?.kind, 'passed');
  t.is(verdicts.get('plain')?.kind, 'passed');
  t.like(verdicts.get('wrong'), { kind: 'regressed', change: { from: 2, to: 3 }, confirmed: true });
});

test('plan: a feature that comes in two patches is no regression of the first, unless it stays wrong', (t) => {
  const from =
    (arrives: number, then: Behaviour = good): Behaviour =>
    (stop) =>
      stop < arrives ? 'fail' : then(stop);
  for (const probeFirst of [false, true]) {
    const { verdicts, steps } = playGate({
      stops: 7,
      transient: [4],
      tests: {
        [PROBE]: from(2),
        whole: from(2),
        second: from(5),
        never: () => 'fail',
        splats: (stop) => (stop === 4 ? splat : stop < 2 ? 'skip' : 'pass'),
      },
      probeFirst,
    });
    t.is(verdicts.get('second')?.kind, 'passed');
    t.is(verdicts.get('whole')?.kind, 'passed');
    t.like(verdicts.get('never'), { kind: 'regressed', change: { from: 1, to: 2 } });
    const red = [...verdicts.values()]
      .filter(({ kind }) => kind === 'regressed')
      .map(({ subject }) => subject.test);
    t.true(red.includes('splats'), red.join());
    t.false(steps.some(({ wanted, times }) => times > 1 && wanted !== 'all' && wanted.includes('second')));
  }
});

test('plan: a base without passthrough is asked only what counts, and the verdicts are those of a base asked all', (t) => {
  const behaviour = fc.record({
    needs: fc.boolean(),
    brokenFrom: fc.integer({ min: 1, max: 12 }),
    brokenUntil: fc.integer({ min: 2, max: 20 }),
    onBase: fc.boolean(),
  });
  const series = fc.record({
    stops: fc.integer({ min: 2, max: 8 }),
    arrives: fc.integer({ min: 1, max: 7 }),
    tests: fc.array(behaviour, { minLength: 1, maxLength: 8 }),
  });
  fc.assert(
    fc.property(series, ({ stops, arrives: wanted, tests: all }) => {
      const arrives = Math.min(wanted, stops - 1);
      const behave =
        ({ needs, brokenFrom: from, brokenUntil: until, onBase }: (typeof all)[number]): Behaviour =>
        (stop) => {
          if (needs && stop < arrives) return 'fail';
          if (!needs && onBase) return 'fail';
          return stop >= from && stop < until ? 'fail' : 'pass';
        };
      const tests = Object.fromEntries([
        [PROBE, (stop: number) => (stop < arrives ? 'fail' : 'pass')] as [string, Behaviour],
        ...all.map((each, at): [string, Behaviour] => [`t${at}`, behave(each)]),
      ]);
      const known = ['t0'];
      const whole = playGate({ stops, tests, known });
      const lean = playGate({ stops, tests, known, probeFirst: true });
      t.false(lean.seen.isFull(0));
      for (const { subject, kind, change, confirmed } of whole.all) {
        const other = lean.verdicts.get(subject.id);
        t.deepEqual([other?.kind, other?.change, other?.confirmed], [kind, change, confirmed], subject.id);
      }
    }),
  );
});

test('plan: a base that has passthrough is asked everything, also when it is asked for passthrough first', (t) => {
  const tests = { [PROBE]: good, a: good, b: brokenFrom(2) };
  const { verdicts, steps, seen } = playGate({ stops: 4, tests, probeFirst: true });
  t.true(seen.isFull(0));
  t.deepEqual(steps[0]?.wanted, [PROBE]);
  t.like(verdicts.get('b'), { kind: 'regressed', change: { from: 1, to: 2 }, confirmed: true });
});

test('plan: a base that is lost when it is asked for passthrough is asked everything', (t) => {
  let left = 1;
  const boot: Behaviour = (stop) => (stop === 0 && left-- > 0 ? 'lost' : 'pass');
  const { verdicts, seen } = playGate({
    stops: 3,
    tests: { [BOOT]: boot, [PROBE]: good, a: good },
    probeFirst: true,
  });
  t.true(seen.isFull(0));
  t.is(verdicts.get('a')?.kind, 'passed');
});

test('plan: what is listed as failing is no regression of the patch that brings the feature', (t) => {
  const arrives: Behaviour = (stop) => (stop < 2 ? 'fail' : 'pass');
  const never: Behaviour = () => 'fail';
  for (const probeFirst of [false, true]) {
    const { verdicts } = playGate({
      stops: 4,
      tests: { [PROBE]: arrives, listed: never, broken: never },
      known: ['listed'],
      probeFirst,
    });
    t.is(verdicts.get('listed')?.kind, 'known-failure');
    t.like(verdicts.get('broken'), { kind: 'regressed', change: { from: 1, to: 2 } });
  }
});

test('plan: many tests that one patch breaks are convicted by a few', (t) => {
  const many = Object.fromEntries(
    Array.from({ length: 60 }, (_, n) => [`t${String(n).padStart(2, '0')}`, brokenFrom(1)]),
  );
  const { verdicts, steps } = playGate({ stops: 2, tests: { a: good, ...many } });
  t.true(
    [...verdicts.values()].filter(({ kind }) => kind === 'regressed').every(({ confirmed }) => confirmed),
  );
  t.true(steps.every(({ wanted, times }) => times === 1 || wanted.length <= 12));
});

test('plan: a gate that was cut short claims nothing that it has not proved', (t) => {
  for (let steps = 0; steps < 6; steps += 1) {
    const { verdicts } = playGate({ stops: 4, tests: { a: good, b: brokenFrom(2) }, steps });
    const verdict = verdicts.get('b');
    if (verdict?.kind === 'regressed' && verdict.confirmed) t.true((verdict.odds ?? 1) < BELIEVED);
    if (steps === 1) t.is(verdicts.get('a')?.kind, 'not-run');
  }
});
