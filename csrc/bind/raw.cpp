#include "raw.h"

#include <torch/csrc/stable/c/shim.h>

#include <stdexcept>
#include <utility>

#include "dlpack.h"

namespace genfast {

namespace {

// What raw calls ask of Python's torch, found once and kept for good.
struct Torch {
  const dlpack::ExchangeAPI* exchange = nullptr;
  PyObject *tensor, *parameter, *empty_like, *new_empty, *zero, *is_negative, *increment_version;
  PyObject *level, *dispatch_modes, *function_modes, *tracing, *profiling;  // each says whether calls are watched
  PyObject *forward_mode, *forward_level;                                   // a module's dict, and the name in it
  PyObject *requires_grad, *named_dtype, *gradient;
  struct Type {
    PyObject* dtype;
    ScalarType type;
    dlpack::Type theirs;
  };
  std::array<Type, 6> types;

  PyObject* dtype_of(ScalarType type) const {
    for (const Type& t : types)
      if (t.type == type) return t.dtype;
    throw std::runtime_error("a dtype that raw ops do not make");
  }
};
Torch* torch_ = nullptr;

PyObject* find(const char* module, const char* name) {
  PyObject* from = PyImport_ImportModule(module);
  PyObject* found = from ? PyObject_GetAttrString(from, name) : nullptr;
  Py_XDECREF(from);
  return found;
}

// Whether a function without arguments answers so, without an error.
bool answers(PyObject* function, PyObject* wanted) {
  PyObject* answer = PyObject_CallNoArgs(function);
  const bool same = answer == wanted;
  Py_XDECREF(answer);
  return same;
}

}  // namespace

bool RawCall::allowed() {
  if (!torch_->exchange) return false;
  static PyObject* const empty = PyLong_FromLong(0);  // small integers are one object each
  static PyObject* const no_level = PyLong_FromLong(-1);
  const Torch& t = *torch_;
  const bool plain = PyDict_GetItem(t.forward_mode, t.forward_level) == no_level && answers(t.level, Py_None) &&
                     answers(t.dispatch_modes, empty) && answers(t.function_modes, empty) &&
                     answers(t.tracing, Py_False) && answers(t.profiling, Py_False);
  if (!plain) PyErr_Clear();
  return plain;
}

RawCall::RawCall() : recording_(aoti_torch_grad_mode_is_enabled()) {}

RawCall::~RawCall() {
  for (size_t i = 0; i < made_count_; ++i) Py_XDECREF(made_[i]);
}

bool RawCall::view(PyObject* object, Tensor& to) {
  dlpack::Tensor seen;
  if (torch_->exchange->view(object, &seen) != 0) return PyErr_Clear(), false;
  const bool cpu = seen.device.type == dlpack::kCPU;
  if (!cpu && seen.device.type != dlpack::kCUDA) return false;
  for (const Torch::Type& type : torch_->types)
    if (type.theirs.code == seen.type.code && type.theirs.bits == seen.type.bits && seen.type.lanes == 1) {
      const size_t dims = size_t(seen.ndim);
      const Device device{cpu ? DeviceType::CPU : DeviceType::CUDA, cpu ? -1 : seen.device.index};
      to = Tensor(this, object, static_cast<char*>(seen.data) + seen.byte_offset, type.type, seen.type.bits / 8, device,
                  {seen.shape, dims}, {seen.strides, dims});
      return seen.data || to.numel() == 0;  // what has none is a wrapper, or was freed
    }
  return false;
}

bool RawCall::read(PyObject* object, Tensor& to) {
  PyObject* type = reinterpret_cast<PyObject*>(Py_TYPE(object));
  if (type != torch_->tensor && type != torch_->parameter) return false;
  if (!view(object, to)) return false;
  const ScalarType numbers = to.scalar_type();
  if (numbers != ScalarType::Long && numbers != ScalarType::Int) {
    if (PyObject* negative = PyObject_CallOneArg(torch_->is_negative, object); negative != Py_False) {
      Py_XDECREF(negative), PyErr_Clear();
      return false;
    } else {
      Py_DECREF(negative);
    }
    if (recording_ && !wants_gradient_) {
      PyObject* wanted = PyObject_GetAttr(object, torch_->requires_grad);
      if (!wanted) return PyErr_Clear(), false;
      wants_gradient_ = wanted == Py_True;
      Py_DECREF(wanted);
    }
  }
  return true;
}

bool RawCall::read(PyObject* object, Written& to) {
  if (!read(object, static_cast<Tensor&>(to))) return false;
  written_.push_back(object);
  return true;
}

bool RawCall::read(PyObject* object, int64_t& to) {
  if (!PyLong_Check(object) || PyBool_Check(object)) return false;
  int overflow = 0;
  to = PyLong_AsLongLongAndOverflow(object, &overflow);
  return overflow == 0;
}

bool RawCall::read(PyObject* object, double& to) {
  if (!PyFloat_Check(object)) return false;
  to = PyFloat_AS_DOUBLE(object);
  return true;
}

bool RawCall::read(PyObject* object, bool& to) {
  to = object == Py_True;
  return PyBool_Check(object);
}

bool RawCall::read(PyObject* object, ScalarType& to) {
  for (const Torch::Type& type : torch_->types)
    if (type.dtype == object) return to = type.type, true;
  return false;
}

bool RawCall::count_versions() {
  PyObject* written = PyTuple_New(Py_ssize_t(written_.size()));
  if (!written) return false;
  for (size_t i = 0; i < written_.size(); ++i) {
    Py_INCREF(written_[i]);
    PyTuple_SET_ITEM(written, i, written_[i]);
  }
  PyObject* done = PyObject_CallOneArg(torch_->increment_version, written);
  Py_DECREF(written);
  Py_XDECREF(done);
  return done != nullptr;
}

Tensor RawCall::make(const Tensor& like, Sizes sizes, ScalarType type, MemoryFormat) {
  if (made_count_ == made_.size()) throw std::runtime_error("an op that makes more tensors than raw calls keep");
  PyObject *args[4] = {nullptr, static_cast<PyObject*>(like.owner()), nullptr, torch_->dtype_of(type)}, *made = nullptr;
  if (sizes.data() == like.sizes().data()) {  // torch keeps the format
    PyObject* same[3] = {nullptr, args[1], args[3]};
    const bool as_is = type == like.scalar_type();
    made = PyObject_Vectorcall(torch_->empty_like, same + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               as_is ? nullptr : torch_->named_dtype);
  } else if ((args[2] = PyTuple_New(Py_ssize_t(sizes.size()))) != nullptr) {
    for (size_t i = 0; i < sizes.size(); ++i) PyTuple_SET_ITEM(args[2], i, PyLong_FromLongLong(sizes[i]));
    made = PyObject_Vectorcall(torch_->new_empty, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, torch_->named_dtype);
    Py_DECREF(args[2]);
  }
  if (!made) throw std::runtime_error("torch has no memory");
  made_[made_count_++] = made;
  Tensor found;
  if (!view(made, found)) throw std::runtime_error("torch made another tensor");
  return found;
}

void RawCall::zero_on_device(const Tensor& made) {
  PyObject* done = PyObject_CallOneArg(torch_->zero, static_cast<PyObject*>(made.owner()));
  if (!done) throw std::runtime_error("zeros could not be written");
  Py_DECREF(done);
}

PyObject* RawCall::give(const Tensor& made) {
  for (size_t i = 0; i < made_count_; ++i)
    if (made.owner() && made_[i] == made.owner()) return std::exchange(made_[i], nullptr);
  Py_RETURN_NONE;
}

PyObject* gradient_wanted() {
  Py_INCREF(torch_->gradient);
  return torch_->gradient;
}

PyObject* wrong_count(Py_ssize_t wanted, Py_ssize_t came) {
  PyErr_Format(PyExc_TypeError, "a raw op of %zd arguments was given %zd", wanted, came);
  return nullptr;
}

// False with Python's error set where this torch lacks something: raw calls then leave everything to registered ops.
static bool look_up(Torch& t) {
  const std::tuple<PyObject**, const char*, const char*> wanted[] = {
      {&t.tensor, "torch", "Tensor"},
      {&t.parameter, "torch.nn", "Parameter"},
      {&t.empty_like, "torch", "empty_like"},
      {&t.level, "torch._C._functorch", "maybe_current_level"},
      {&t.dispatch_modes, "torch._C", "_len_torch_dispatch_stack"},
      {&t.function_modes, "torch._C", "_len_torch_function_stack"},
      {&t.tracing, "torch._C", "_is_tracing"},
      {&t.profiling, "torch._C._autograd", "_profiler_enabled"},
      {&t.increment_version, "torch._C", "_increment_version"},
      {&t.forward_mode, "torch.autograd.forward_ad", "__dict__"},
  };
  for (const auto& [to, module, name] : wanted)
    if (!(*to = find(module, name))) return false;
  const std::pair<PyObject**, const char*> methods[] = {
      {&t.new_empty, "new_empty"}, {&t.zero, "zero_"}, {&t.is_negative, "is_neg"}};
  for (const auto& [to, name] : methods)
    if (!(*to = PyObject_GetAttrString(t.tensor, name))) return false;
  const std::tuple<const char*, ScalarType, dlpack::Type> types[] = {
      {"float32", ScalarType::Float, {dlpack::kFloat, 32, 1}},
      {"float64", ScalarType::Double, {dlpack::kFloat, 64, 1}},
      {"float16", ScalarType::Half, {dlpack::kFloat, 16, 1}},
      {"bfloat16", ScalarType::BFloat16, {dlpack::kBfloat, 16, 1}},
      {"int64", ScalarType::Long, {dlpack::kInt, 64, 1}},
      {"int32", ScalarType::Int, {dlpack::kInt, 32, 1}},
  };
  for (size_t i = 0; i < t.types.size(); ++i) {
    const auto& [name, type, theirs] = types[i];
    t.types[i] = {find("torch", name), type, theirs};
    if (!t.types[i].dtype) return false;
  }
  t.forward_level = PyUnicode_InternFromString("_current_level");
  t.requires_grad = PyUnicode_InternFromString("requires_grad");
  t.named_dtype = Py_BuildValue("(s)", "dtype");
  PyObject* capsule = PyObject_GetAttrString(t.tensor, "__dlpack_c_exchange_api__");
  if (!capsule) return false;
  const void* found = PyCapsule_GetPointer(capsule, dlpack::kCapsule);
  Py_DECREF(capsule);  // the table is torch's, and stays
  if (!found) return false;
  const auto* exchange = static_cast<const dlpack::ExchangeAPI*>(found);
  if (exchange->header.major == dlpack::kMajor && exchange->view) t.exchange = exchange;
  return true;
}

bool add_raw_ops(PyObject* module) {
  Torch t;
  t.gradient = PyObject_CallNoArgs(reinterpret_cast<PyObject*>(&PyBaseObject_Type));
  if (!look_up(t)) t.exchange = nullptr, PyErr_Clear();
  torch_ = new Torch(t);
  if (!t.gradient || PyModule_AddObjectRef(module, "GRADIENT", t.gradient) != 0) return false;
  for (PyMethodDef& op : raw_ops()) {
    PyObject* function = PyCFunction_New(&op, nullptr);
    if (!function || PyModule_AddObject(module, op.ml_name, function) != 0) return false;
  }
  return true;
}

}  // namespace genfast
