import test from 'ava';
import { matches, RuleBook, type Matchable } from './rules.ts';

const open: Matchable = { opcode: 'OPEN', path: '/dir/f', nodeid: 3, pid: 100, childPath: null };
const lookup: Matchable = { opcode: 'LOOKUP', path: '/dir', nodeid: 2, pid: 100, childPath: '/dir/f' };

test('every member of a match has to agree', (t) => {
  t.true(matches({}, open));
  t.true(matches({ opcode: 'OPEN', path: '/dir/f', nodeid: 3, pid: 100 }, open));
  t.true(matches({ opcode: ['READ', 'OPEN'] }, open));
  t.false(matches({ opcode: 'OPEN', path: '/dir/g' }, open));
  t.false(matches({ opcode: 'READ' }, open));
  t.false(matches({ nodeid: 4 }, open));
  t.false(matches({ pid: 1 }, open));
});

test('a path means the named child where a request names one', (t) => {
  t.true(matches({ path: '/dir/f' }, lookup));
  t.false(matches({ path: '/dir' }, lookup));
});

test('a later rule covers an earlier one until it is taken back', (t) => {
  const book = new RuleBook();
  book.add({ match: { opcode: 'OPEN' }, action: { do: 'error', errno: 'EIO' } });
  const later = book.add({ match: {}, action: { do: 'hold' } });
  t.deepEqual(book.decide(open), { do: 'hold' });
  book.remove(later);
  t.deepEqual(book.decide(open), { do: 'error', errno: 'EIO' });
  t.is(book.decide(lookup), undefined);
});

test('nth waits and times ends', (t) => {
  const book = new RuleBook();
  book.add({ match: { opcode: 'OPEN' }, nth: 2, times: 2, action: { do: 'hold' } });
  const decisions = [1, 2, 3, 4].map(() => book.decide(open)?.do);
  t.deepEqual(decisions, [undefined, 'hold', 'hold', undefined]);
});

test('a rule that is covered counts what it would have seen', (t) => {
  const book = new RuleBook();
  book.add({ match: {}, nth: 2, action: { do: 'error', errno: 'EIO' } });
  book.add({ match: {}, times: 1, action: { do: 'normal' } });
  t.deepEqual(book.decide(open), { do: 'normal' });
  t.deepEqual(book.decide(open), { do: 'error', errno: 'EIO' });
});
