import { join } from 'node:path';
import { text } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf } from '../lib/layers.ts';
import { mountedAt } from '../lib/mounted-at.ts';
import { upperOn } from '../lib/stack.ts';
import type { MountRequest } from '../lib/stacked-mount.ts';

/** How the layers of an overlay are written in the options of its mount. */

guestTest('a comma in the name of a layer is written with a backslash', async (t, guest) => {
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layers');
  for (const name of ['low,er', 'low', 'up,per', 'wo,rk']) await client.mkdir({ path: join(at, name) });
  await fill(client, join(at, 'low,er'), ['below']);
  await using overlay = await guest.mountOverlay(
    {
      lower: String.raw`${at}/low\,er`,
      upper: String.raw`${at}/up\,per`,
      work: String.raw`${at}/wo\,rk`,
    },
    client,
  );
  t.deepEqual(await client.readdir({ path: overlay.path }), ['below']);
  await client.writeFile({ path: overlay.file('above'), data: '' });
  t.deepEqual(await client.readdir({ path: join(at, 'up,per') }), ['above']);
});

guestTest('where the layers of an overlay are is told as it was said', async (t, guest) => {
  await using client = await guest.client();
  const [bottom = '', top = ''] = await layersOf(guest, 2);
  const { upper, work } = await upperOn(guest);
  const lower = [top, bottom];
  const list = `lowerdir=${top}:${bottom}`;
  for (const [what, layers, expected] of [
    ['with an upper layer', { lower, upper, work }, [list, `upperdir=${upper}`, `workdir=${work}`]],
    ['without one', { lower }, [list]],
  ] as const) {
    await using overlay = await guest.mountOverlay(layers, client);
    const shown = (await mountedAt(client, overlay.path)).options.split(',');
    t.deepEqual(
      shown.filter((option) => /^(lower|upper|work)dir/.test(option)),
      expected,
      what,
    );
  }
});

guestTest('what would separate options in the name of a layer is told as a number', async (t, guest) => {
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layers');
  const [lower, upper, work] = ['low er', 'up per', 'wo rk'].map((name) => join(at, name));
  for (const path of [lower, upper, work]) await client.mkdir({ path: path ?? '' });
  await using overlay = await guest.mountOverlay({ lower: lower ?? '', upper, work }, client);
  // A space ends what a mount's line says of its options (proc_pid_mountinfo(5)).
  const shown = (await mountedAt(client, overlay.path)).options.split(',');
  const told = (name: string) => join(at, name).replaceAll(' ', String.raw`\040`);
  t.deepEqual(
    shown.filter((option) => /^(lower|upper|work)dir/.test(option)),
    [`lowerdir=${told('low er')}`, `upperdir=${told('up per')}`, `workdir=${told('wo rk')}`],
  );
});

/** An overlay without an upper layer, by options that say where each layer is. */
function readOnly(layers: readonly string[]): MountRequest {
  return { source: 'overlay', type: 'overlay', options: [...layers, 'metacopy=on'].join(',') };
}

guestTest('layers may be given one by one, those of data alone last', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'layers given one by one');
  await using client = await guest.client();
  const layers = await layersOf(guest, 3);
  const [data = '', bottom = '', top = ''] = layers;
  for (const [at, name] of [
    [data, 'data'],
    [bottom, 'bottom'],
    [top, 'top'],
  ] as const) {
    await fill(client, at, [name, 'all']);
    await client.writeFile({ path: `${at}/all`, data: name });
  }
  const one = [`lowerdir+=${top}`, `lowerdir+=${bottom}`, `datadir+=${data}`];
  {
    await using overlay = await guest.mount(readOnly(one), client);
    t.deepEqual(await client.readdir({ path: overlay.path }), ['all', 'bottom', 'top'], 'data has no names');
    t.is(text(await client.readFile({ path: overlay.file('all') })), 'top', 'the first is the uppermost');
    t.is(await client.errno.stat({ path: overlay.file('data') }), 'ENOENT');
    const shown = (await mountedAt(client, overlay.path)).options.split(',');
    t.deepEqual(
      shown.filter((option) => option.includes('dir+=')),
      one,
      'what /proc/self/mountinfo shows',
    );
  }
  const errnoOf = (layers: readonly string[]) => guest.mountErrno(readOnly(layers), client);
  const refused: Readonly<Record<string, readonly string[]>> = {
    'one more after a list of layers': [`lowerdir=${top}`, `lowerdir+=${bottom}`],
    'data alone after a list of layers': [`lowerdir=${top}`, `datadir+=${data}`],
    'one after those of data alone': [`lowerdir+=${top}`, `datadir+=${data}`, `lowerdir+=${bottom}`],
    'data alone and nothing else': [`datadir+=${data}`],
  };
  for (const [what, options] of Object.entries(refused)) t.is(await errnoOf(options), 'EINVAL', what);
  t.is(await errnoOf([`lowerdir=${top}:${bottom}`]), 'ok', 'a list of layers');
});

guestTest('the name of a layer that is given alone is taken as it is written', async (t, guest) => {
  guest.needs(guest.expected.overlaysWithDataLayers, 'layers given one by one');
  await using client = await guest.client();
  const at = await guest.directory('ext4', 'layers');
  const names = [String.raw`back\slash`, 'co:lon'];
  for (const [nth, name] of names.entries()) {
    await client.mkdir({ path: join(at, name) });
    await fill(client, join(at, name), [`of-${nth}`]);
  }
  const layers = readOnly(names.map((name) => `lowerdir+=${join(at, name)}`));
  t.is(await guest.mountErrno(layers, client), 'ok', 'a backslash and a colon in lowerdir+');
  await using overlay = await guest.mount(layers, client);
  t.deepEqual((await client.readdir({ path: overlay.path })).toSorted(), ['of-0', 'of-1']);
});
