import test from 'ava';
import { encodeFrame } from './frame.ts';
import { RpcPeer, RpcRefusal } from './peer.ts';

test('answers find their calls in any order', async (t) => {
  const peer = new RpcPeer(() => undefined);
  const calls = [peer.call('one', {}), peer.call('two', {})];
  peer.receive(encodeFrame({ id: 2, result: 'second' }));
  peer.receive(encodeFrame({ id: 1, result: 'first' }));
  t.deepEqual(await Promise.all(calls), ['first', 'second']);
});

test('a refusal carries its code', async (t) => {
  const peer = new RpcPeer(() => undefined);
  const call = peer.call('open', {});
  peer.receive(encodeFrame({ id: 1, error: { code: 'ENOENT', message: 'not there' } }));
  const error = await t.throwsAsync(call, { instanceOf: RpcRefusal });
  t.is(error.code, 'ENOENT');
});

test('closing ends what waits and what comes later', async (t) => {
  const peer = new RpcPeer(() => undefined);
  const waiting = peer.call('forever', {});
  peer.close(new RpcRefusal('child-gone', 'it ended'));
  await t.throwsAsync(waiting, { message: 'it ended' });
  await t.throwsAsync(peer.call('again', {}), { message: 'it ended' });
});

test('a peer that does not speak the protocol ends every call', async (t) => {
  const peer = new RpcPeer(() => undefined);
  const waiting = peer.call('hello', {});
  peer.receive(Buffer.from('Last login: yesterday\n'));
  await t.throwsAsync(waiting, { name: 'FrameError' });
});

test('an answer nobody waits for is dropped', async (t) => {
  const peer = new RpcPeer(() => undefined);
  peer.receive(encodeFrame({ id: 77, result: 1 }));
  const call = peer.call('one', {});
  peer.receive(encodeFrame({ id: 1, result: 'mine' }));
  t.is(await call, 'mine');
});
