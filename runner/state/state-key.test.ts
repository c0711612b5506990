import test from 'ava';
import { stateKey, type StateInputs } from './state-key.ts';

const inputs: StateInputs = {
  kernel: 'k',
  rootfs: 'r',
  daemon: 'd',
  abi: 'fd',
  accelerator: 'tcg',
  memoryMib: 1024,
  cpus: 1,
  append: [],
  qemu: '7.2.22',
  virtme: '1.33',
  processor: 'p',
};

test('saved machine: another input of any kind is another machine', (t) => {
  const others: StateInputs[] = [
    ...(['kernel', 'rootfs', 'daemon', 'abi', 'accelerator', 'qemu', 'virtme', 'processor'] as const).map(
      (name) => ({ ...inputs, [name]: 'other' }),
    ),
    { ...inputs, memoryMib: 512 },
    { ...inputs, cpus: 2 },
    { ...inputs, append: ['debug'] },
  ];
  const keys = [inputs, ...others].map(stateKey);
  t.is(new Set(keys).size, keys.length);
  t.regex(keys[0] ?? '', /^[0-9a-f]{32}$/);
});

test('saved machine: the same inputs in another order are the same machine', (t) => {
  const turned = Object.fromEntries(Object.entries(inputs).reverse()) as unknown as StateInputs;
  t.is(stateKey(turned), stateKey(inputs));
});
