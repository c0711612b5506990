import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { upperOn } from '../lib/stack.ts';

/** An overlay that keeps its marks in attributes of users (userxattr, overlayfs.rst), and all others of those. */

guestTest('with userxattr all other attributes of users are those of the file', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4', 'lower');
  await client.writeFile({ path: `${lower}/f`, data: 'low' });
  const set = { name: 'user.word', data: 'value' };
  await client.setxattr({ path: `${lower}/f`, ...set });
  const layers = await upperOn(guest);
  await using overlay = await guest.mountOverlay({ lower, ...layers, options: 'userxattr' }, client);
  const path = overlay.file('f');
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'of the lower layer');
  await client.chmod({ path, mode: 0o600 });
  t.is(text(await client.getxattr({ path: `${layers.upper}/f`, name: 'user.word' })), 'value', 'copied up');
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'of the upper layer');
  if (!guest.expected.overlaysWithDataLayers) return;
  // What is called like a mark has a longer name in the layer.
  await client.setxattr({ path, name: 'user.overlay.mine', data: 'own' });
  t.is(text(await client.getxattr({ path, name: 'user.overlay.mine' })), 'own');
  t.deepEqual((await client.listxattr({ path })).toSorted(), ['user.overlay.mine', 'user.word']);
  const inLayer = { path: `${layers.upper}/f`, name: 'user.overlay.overlay.mine' };
  t.is(text(await client.getxattr(inLayer)), 'own', 'in the layer');
  await client.removexattr({ path, name: 'user.overlay.mine' });
  t.deepEqual(await client.listxattr({ path }), ['user.word'], 'removed');
});
