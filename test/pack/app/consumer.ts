import { type EnhancedFunctionRegistry, defineFunction } from 'nestjs-functions';
import { conformanceCasesFor, type BackendUnderTest } from 'nestjs-functions/conformance';

// Only compiled: what a user's editor and build see of the package's types.

const resize = defineFunction<{ width: number }, { url: string }>({
  name: 'resize',
  workflowId: 'media',
});

export async function typedCall(registry: EnhancedFunctionRegistry): Promise<string> {
  const { url } = await registry.call(resize, { width: 100 }, { timeoutMs: 1_000 });
  return url;
}

export async function wrongCall(registry: EnhancedFunctionRegistry): Promise<void> {
  // @ts-expect-error a parameter of the wrong type does not compile
  await registry.call(resize, { width: 'wide' });
}

export async function holdToTheContract(backend: BackendUnderTest): Promise<void> {
  for (const { name, run } of conformanceCasesFor(backend)) {
    console.log(name);
    await run(backend);
  }
}
