import test from 'ava';
import { InodeTable, ROOT_NODEID } from './inode-table.ts';

test('a file is one node under all of its names', (t) => {
  const table = new InodeTable('/srv', 'root');
  const one = table.remember('8:10', '/a');
  const other = table.remember('8:10', '/b');
  t.is(one.nodeid, other.nodeid);
  t.is(one.lookups, 2);
  table.removeName('/a');
  t.is(table.nameOf(one.nodeid), '/b');
});

test('a node is forgotten by its count, and its number is not used again', (t) => {
  const table = new InodeTable('/srv', 'root');
  const first = table.remember('8:10', '/a');
  table.remember('8:10', '/a');
  table.forget(first.nodeid, 1);
  t.truthy(table.get(first.nodeid));
  table.forget(first.nodeid, 1);
  t.is(table.get(first.nodeid), undefined);
  t.not(table.remember('8:10', '/a').nodeid, first.nodeid);
});

test('the root is never forgotten', (t) => {
  const table = new InodeTable('/srv', 'root');
  table.forget(ROOT_NODEID, 100);
  t.is(table.nameOf(ROOT_NODEID), '/');
});

test('an inode number that the file system gives to a new file is a new node', (t) => {
  const table = new InodeTable('/srv', 'root');
  const old = table.remember('8:10', '/a');
  table.removeName('/a');
  const fresh = table.remember('8:10', '/b');
  t.not(fresh.nodeid, old.nodeid);
  t.is(table.nameOf(old.nodeid), undefined);
});

test('renaming a directory moves what is below it, and nothing beside it', (t) => {
  const table = new InodeTable('/srv', 'root');
  table.remember('8:1', '/dir');
  const inside = table.remember('8:2', '/dir/f');
  const beside = table.remember('8:3', '/dirt');
  table.rename('/dir', '/moved');
  t.is(table.nameOf(inside.nodeid), '/moved/f');
  t.is(table.nameOf(beside.nodeid), '/dirt');
});

test('exchanging two names swaps their nodes', (t) => {
  const table = new InodeTable('/srv', 'root');
  const one = table.remember('8:1', '/one');
  const two = table.remember('8:2', '/two');
  table.exchange('/one', '/two');
  t.is(table.nameOf(one.nodeid), '/two');
  t.is(table.nameOf(two.nodeid), '/one');
});
